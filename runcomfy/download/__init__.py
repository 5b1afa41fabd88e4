"""Download from untrusted hosts: which may be asked (`hosts`), one request and its redirects (`http`), and one complete
file (`stream`), resumed where a connection broke (`resume`).
"""
