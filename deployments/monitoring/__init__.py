"""What shows and watches the metrics: a Grafana dashboard, alert rules, and examples of who collects them."""
