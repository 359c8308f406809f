"""Entry points for spark-submit: each parses its arguments, opens the Spark session, and runs one operation."""
