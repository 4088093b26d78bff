"""Small things that both scripts need: flags, seeds, devices, processes, logging, run folders."""
