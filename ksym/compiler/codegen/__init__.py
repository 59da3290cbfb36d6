"""Code generation: MXNet's graphs and LLVM's assembly."""
