//! Black-box tests: they drive the built binary and read the kernel.
