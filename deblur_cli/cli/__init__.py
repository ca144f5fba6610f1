"""The command line. Nothing else imports it, and importing it loads neither torch nor numpy."""
