"""Whether a chip keeps the wire protocol: one suite for emulators, firmware and boards (``hil board selftest``)."""
