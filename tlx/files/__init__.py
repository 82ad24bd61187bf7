"""Safe reading and writing of files, also of files from untrusted sources."""
