"""A process inside a container: an OCI runtime bundle, and crun or runc to run it."""
