# Sourced: the one place that names the libtorch version.
TORCH_VERSION=2.13.0
