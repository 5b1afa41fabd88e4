"""Wait for a request: poll it (`poll`), until when (`watch`), when next (`schedule`), and how long others ran."""
