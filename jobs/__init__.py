"""One spark-submit entry point a verb: parse arguments, open the session, call, write."""
