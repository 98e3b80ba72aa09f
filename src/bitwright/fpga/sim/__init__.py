"""The processor's RTL as a machine: compiled simulators and their external memory."""
