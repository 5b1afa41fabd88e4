"""What people read in Prefect's UI.

One module for each page (`artifacts` of a generation, `batch`, `journal`, `failure`, `review`), how a person decides
about a file (`deciding`), the progress bars (`progress` of
many generations, `poll_progress` of one request), and `markdown`, which escapes and formats what all of them show.
"""
