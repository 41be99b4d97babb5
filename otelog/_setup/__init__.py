"""What `otelog.configure` does: it makes a pipeline of the settings, and installs providers and handler."""
