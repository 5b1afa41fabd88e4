"""What shows and watches the metrics: a Grafana dashboard (made by `dashboard`), alert rules, and examples of
collecting them.
"""
