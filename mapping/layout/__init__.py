"""Where weights lie: tiles, copies, rounds, places on macros."""
