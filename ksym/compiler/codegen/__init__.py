"""Writing code: MXNet's graphs and LLVM's assembly."""
