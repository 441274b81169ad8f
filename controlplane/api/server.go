package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// DefaultSocket is where a node listens for its command line.
const DefaultSocket = "/run/fairlead/fairlead.sock"

// Provider is the running node.
type Provider interface {
	Status() Status
	// Profile has the data process record its CPU time for so long, and
	// returns the recording in the format of pprof.
	Profile(ctx context.Context, length time.Duration) ([]byte, error)
}

// MaxProfile is the longest profile that a node records.
const MaxProfile = time.Minute

// Serve answers on a Unix socket, which only root and its group may use, until
// ctx ends. A socket file that nobody listens on any more is replaced.
func Serve(ctx context.Context, socket string, node Provider) error {
	l, err := listen(socket)
	if err != nil {
		return fmt.Errorf("admin API: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(node.Status())
	})
	mux.HandleFunc("POST /v1/debug/profile", func(w http.ResponseWriter, r *http.Request) { profile(w, r, node) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { server.Close() })
	defer stopped()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin API: %w", err)
	}
	return nil
}

// profile answers with a CPU profile of as many seconds as the query says.
func profile(w http.ResponseWriter, r *http.Request, node Provider) {
	seconds, err := strconv.Atoi(r.URL.Query().Get("seconds"))
	length := time.Duration(seconds) * time.Second
	if err != nil || seconds < 1 || length > MaxProfile {
		http.Error(w, fmt.Sprintf("seconds is to be 1 to %d", int(MaxProfile.Seconds())), http.StatusBadRequest)
		return
	}
	recorded, err := node.Profile(r.Context(), length)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(recorded)
}

func listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.Dial("unix", socket); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s is in use: another fairlead runs", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
