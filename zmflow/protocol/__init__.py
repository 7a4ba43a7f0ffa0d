"""What crosses a process border: control messages, frames, credits, versions. Bytes and rules, no sockets."""
