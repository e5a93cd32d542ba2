"""``hil chip fit``: from tables of cell readings to a record of the device model."""
