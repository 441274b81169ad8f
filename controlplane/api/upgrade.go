package api

import (
	"context"
	"net/http"
	"time"
)

// Upgrader replaces the node's processes by those of the binary that is
// installed now.
type Upgrader interface {
	// Upgrade begins an upgrade. It returns when the new process is prepared to
	// take over, which it does once the answer is sent, or when it has failed,
	// and nothing has changed. With dataOnly the data process has been replaced
	// when it returns.
	Upgrade(ctx context.Context, dataOnly bool) (Processes, error)
	// Processes tells which processes the node has now.
	Processes(ctx context.Context) Processes
}

// Processes are the two processes of a node.
type Processes struct {
	Control        int    `json:"control" doc:"The control process, which answers this."`
	ControlVersion string `json:"controlVersion"`
	Data           int    `json:"data" doc:"The data process; 0: there is none at the moment."`
	DataVersion    string `json:"dataVersion"`
	Successor      int    `json:"successor" doc:"The process that is about to take over from the control process; 0: there is none."`
	UnderWay       bool   `json:"underWay" doc:"Whether an upgrade is under way."`
	Failed         string `json:"failed" doc:"What the last upgrade failed with; empty when it succeeded, or there was none."`
}

// upgradeWait is how long it may take until a new process is prepared.
const upgradeWait = 45 * time.Second

func registerUpgrade(r *Router, node Upgrader) {
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/upgrade", Role: ReadOnly, Tag: "node", Summary: "The node's processes, and how the last upgrade went",
		Examples: []Example{{Path: "/v1/upgrade"}},
	}, func(ctx context.Context, _ struct{}) (Processes, error) { return node.Processes(ctx), nil })

	type request struct {
		DataOnly bool `query:"dataOnly" doc:"Whether the control process stays." default:"false"`
	}
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/upgrade", Role: Operator, Tag: "node",
		Summary: "Replace the node's processes by those of the binary that is installed now",
		Description: "No packet and no connection is lost. The control process is replaced first, which ends connections to this API, and then the data process. " +
			"Where a new process does not come up, the old one goes on.",
		Examples: []Example{{Path: "/v1/upgrade"}, {Path: "/v1/upgrade?dataOnly=true"}}, Timeout: upgradeWait,
	}, func(ctx context.Context, in request) (Processes, error) {
		p, err := node.Upgrade(ctx, in.DataOnly)
		if err != nil {
			return p, Errorf(Unavailable, "%v", err)
		}
		return p, nil
	})
}

// Processes asks for the node's processes.
func (c *Client) Processes(ctx context.Context) (*Processes, error) {
	var p Processes
	return &p, c.Call(ctx, http.MethodGet, "/v1/upgrade", nil, nil, &p)
}

// Upgrade begins an upgrade.
func (c *Client) Upgrade(ctx context.Context, dataOnly bool) (*Processes, error) {
	var p Processes
	path := "/v1/upgrade"
	if dataOnly {
		path += "?dataOnly=true"
	}
	return &p, c.Call(ctx, http.MethodPost, path, nil, nil, &p)
}
