package api

import (
	"context"
	"io"
	"net/http"
	"runtime"
)

// LogKeeper has the last lines of the node's log.
type LogKeeper interface {
	// RecentLog gives them, oldest first, each with its newline.
	RecentLog() []string
}

// maxGoroutines bounds the list of goroutines, in bytes.
const maxGoroutines = 16 << 20

func registerDebug(r *Router, node LogKeeper) {
	Raw(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/debug/log", Role: Operator, Tag: "debug", Summary: "The last lines of the log",
		Examples: []Example{{Path: "/v1/debug/log"}}, Answers: "text/plain",
	}, func(_ context.Context, _ struct{}, w io.Writer) error {
		for _, line := range node.RecentLog() {
			if _, err := io.WriteString(w, line); err != nil {
				return err
			}
		}
		return nil
	})
	Raw(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/debug/goroutines", Role: Operator, Tag: "debug", Summary: "What the goroutines of the control process do",
		Examples: []Example{{Path: "/v1/debug/goroutines"}}, Answers: "text/plain",
	}, func(_ context.Context, _ struct{}, w io.Writer) error {
		_, err := w.Write(goroutines())
		return err
	})
}

// goroutines lists all goroutines with their stacks.
func goroutines() []byte {
	for size := 256 << 10; ; size *= 2 {
		text := make([]byte, size)
		if n := runtime.Stack(text, true); n < size || size >= maxGoroutines {
			return text[:n]
		}
	}
}
