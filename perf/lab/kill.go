package lab

// KillAll kills every process on the host at once, as a power failure does,
// whoever started it. Those that Start has started are waited for by Close.
func (h *Host) KillAll() error { return killInside(h.id) }
