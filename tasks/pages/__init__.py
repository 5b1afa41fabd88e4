"""What people read in Prefect's UI: one module for each page (`artifacts` of a generation, `batch`, `journal`,
`failure`), progress bars (`progress`, `poll_progress`), and what all of them draw with (`markdown`, `command_line`,
`posters`).
"""
