"""What every command needs: flags, devices, processes, run folders, signals, weights."""
