package api

import (
	"context"
	"net/http"
	"time"
)

// LogLeveler changes what the control process writes to its log.
type LogLeveler interface {
	LogLevel(ctx context.Context) LogLevel
	// SetLogLevel puts a level in force, for so long or, with 0, until the next
	// start.
	SetLogLevel(ctx context.Context, level string, length time.Duration) (LogLevel, error)
}

// LogLevel is the level of the log.
type LogLevel struct {
	Level      string     `json:"level" doc:"The least severe lines that are written: debug, info, warn or error."`
	Configured string     `json:"configured" doc:"The level of the configuration."`
	Until      *time.Time `json:"until,omitempty" doc:"When the configured level is in force again; not there when it is, or when the level holds until the next start."`
}

func registerLogLevel(r *Router, node LogLeveler) {
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/log-level", Role: ReadOnly, Tag: "debug", Summary: "The level of the log",
		Examples: []Example{{Path: "/v1/log-level"}},
	}, func(ctx context.Context, _ struct{}) (LogLevel, error) { return node.LogLevel(ctx), nil })

	type change struct {
		Level string   `json:"level" doc:"The least severe lines to write." enum:"debug,info,warn,error" required:"true"`
		For   Duration `json:"for,omitempty" doc:"How long it holds; 0 is until the next start." minimum:"0s" maximum:"24h"`
	}
	type request struct {
		Body change `body:"application/json"`
	}
	Handle(r, Endpoint{
		Method: http.MethodPut, Path: "/v1/log-level", Role: Operator, Tag: "debug", Summary: "Write more or fewer lines to the log",
		Examples: []Example{{Path: "/v1/log-level", Body: `{"level":"debug","for":"10m"}`}, {Path: "/v1/log-level", Body: `{"level":"info"}`}},
	}, func(ctx context.Context, in request) (LogLevel, error) {
		return node.SetLogLevel(ctx, in.Body.Level, time.Duration(in.Body.For))
	})
}

// LogLevel asks for the level of the log.
func (c *Client) LogLevel(ctx context.Context) (*LogLevel, error) {
	var l LogLevel
	return &l, c.Call(ctx, http.MethodGet, "/v1/log-level", nil, nil, &l)
}

// SetLogLevel has the node write lines from a level on to its log, for so long
// or, with 0, until it starts again.
func (c *Client) SetLogLevel(ctx context.Context, level string, length time.Duration) (*LogLevel, error) {
	var l LogLevel
	body := map[string]any{"level": level}
	if length != 0 {
		body["for"] = Duration(length)
	}
	return &l, c.Call(ctx, http.MethodPut, "/v1/log-level", nil, body, &l)
}
