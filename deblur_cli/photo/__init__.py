"""Photos and their files: `decode` reads one, `encode` writes one."""
