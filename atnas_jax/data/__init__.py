"""Images, class tables, splits, and episodes on the device."""
