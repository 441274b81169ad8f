package api

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Profiler records where the data process spends its time.
type Profiler interface {
	// Profile has the data process record its CPU time for so long, and
	// returns the recording in the format of pprof.
	Profile(ctx context.Context, length time.Duration) ([]byte, error)
}

// MaxProfile is the longest profile that a node records.
const MaxProfile = time.Minute

func registerProfile(r *Router, node Profiler) {
	type request struct {
		Seconds int `query:"seconds" doc:"How long to record." required:"true" minimum:"1" maximum:"60"`
	}
	Raw(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/debug/profile", Role: Operator, Tag: "debug",
		Summary:     "Record where the data process spends its CPU time",
		Description: "The answer is for go tool pprof. Forwarding goes on meanwhile, a little slower.",
		Examples:    []Example{{Path: "/v1/debug/profile?seconds=1"}}, Answers: "application/octet-stream", Timeout: MaxProfile + 10*time.Second,
	}, func(ctx context.Context, in request, w io.Writer) error {
		recorded, err := node.Profile(ctx, time.Duration(in.Seconds)*time.Second)
		if err != nil {
			return Errorf(Unavailable, "%v", err)
		}
		_, err = w.Write(recorded)
		return err
	})
}
