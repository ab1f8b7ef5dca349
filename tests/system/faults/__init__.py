"""Every system call as a place to die at, or to fail at: what is left is whole, and nothing acknowledged is lost."""
