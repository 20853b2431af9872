"""From files on disk to windows of samples and what the network is fed."""
