package api

import (
	"context"
	"net/http"
	"net/netip"

	"fairlead/dataplane/explain"
)

// Explainer says what the node does with a flow.
type Explainer interface {
	// Explain says what the image in force does with the first packet of a
	// flow, and what the flow table has of it.
	Explain(ctx context.Context, q ExplainQuery) (Explanation, error)
}

// ExplainQuery is the flow to explain.
type ExplainQuery struct {
	Client      netip.AddrPort `json:"client" required:"true" doc:"Where the flow comes from: address and port."`
	Protocol    string         `json:"protocol" required:"true" enum:"tcp,udp,sctp"`
	Destination netip.AddrPort `json:"destination" required:"true" doc:"Where it goes to: address and port."`
}

// Explanation is what becomes of a flow, stage by stage. Stages that its first
// packet does not come to are null.
type Explanation struct {
	explain.Explanation
	Flow *Flow `json:"flow,omitempty" doc:"The flow, when there is such a one: its packets go where it says, and the stages are those of a new one."`
}

func registerExplain(r *Router, node Explainer) {
	type request struct {
		Body ExplainQuery `body:"application/json"`
	}
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/explain", Role: ReadOnly, Tag: "flows", Summary: "What the node does with a flow, stage by stage",
		Description: "By the code that decides about packets, on the image in force. Nothing is sent.",
		Examples:    []Example{{Path: "/v1/explain", Body: `{"client": "203.0.113.9:1234", "protocol": "tcp", "destination": "198.18.0.10:80"}`}},
	}, func(ctx context.Context, in request) (Explanation, error) { return node.Explain(ctx, in.Body) })
}

// Explain asks what the node does with a flow.
func (c *Client) Explain(ctx context.Context, q ExplainQuery) (*Explanation, error) {
	var e Explanation
	return &e, c.Call(ctx, http.MethodPost, "/v1/explain", nil, q, &e)
}
