"""Bytes from strangers: which hosts may be asked (`hosts`), one request and its redirects (`http`), and one whole file
(`stream`), which goes on where a connection broke (`resume`).
"""
