package logging

import (
	"context"
	"log/slog"
)

// handler stands before slog's own: it decides what is written.
type handler struct {
	logs    *Logs
	inner   slog.Handler
	limited bool
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.logs.level.Level()
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if !h.limited {
		h.logs.limit.note(r.Level)
		return h.inner.Handle(ctx, r)
	}
	suppressed, ok := h.logs.limit.allow(r.Level, r.Message, h.inner)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("suppressed", suppressed))
	}
	return h.inner.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.logs, h.inner.WithAttrs(attrs), h.limited}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.logs, h.inner.WithGroup(name), h.limited}
}

// Always is a logger whose lines no rate limit leaves out: for what answers to an
// operator, who asks for each of them.
func Always(log *slog.Logger) *slog.Logger {
	if h, ok := log.Handler().(*handler); ok {
		return slog.New(&handler{h.logs, h.inner, false})
	}
	return log
}
