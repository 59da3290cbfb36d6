"""Training by several processes: engines that communicate, and how a process takes part."""
