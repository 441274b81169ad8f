package main

import (
	"log/slog"
	"os"

	"fairlead/configs"
	"fairlead/controlplane/logging"
)

// logOpener opens the log of a node, on standard error. A node that finds its
// configuration in several places asks for it several times: it gets the same
// one as long as the same is wanted of it.
type logOpener struct {
	last   *logging.Logs
	config logging.Config
}

func (o *logOpener) open(cfg *configs.Node) *slog.Logger {
	c := logging.Config{Out: os.Stderr, JSON: cfg.LogFormat == configs.LogJSON, Level: cfg.LogLevel, Rate: cfg.LogRate, Burst: cfg.LogBurst}
	if o.last == nil || c != o.config {
		o.close()
		o.last, o.config = logging.New(c), c
	}
	return o.last.Logger()
}

func (o *logOpener) close() {
	if o.last != nil {
		o.last.Close()
	}
}
