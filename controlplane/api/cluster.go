package api

import (
	"context"
	"net/http"
	"time"
)

// ClusterProvider is the node's view of the cluster that it is in. A node that is
// in none is all that there is: it has no members and no keys to tell of, and its
// sums are over itself.
type ClusterProvider interface {
	// ClusterMembers lists the members, each with what it says of itself.
	ClusterMembers(ctx context.Context) (ClusterMembers, error)
	// ClusterStatus says how the cluster is as a whole.
	ClusterStatus(ctx context.Context) (ClusterStatus, error)
	// ClusterDiff says what differs between the members, or with a name between
	// this node and that one.
	ClusterDiff(ctx context.Context, node string) (ClusterDiff, error)
	// ClusterKeys are the keys that gossip is encrypted with.
	ClusterKeys(ctx context.Context) (ClusterKeys, error)
	// RotateClusterKey has all members encrypt with another key.
	RotateClusterKey(ctx context.Context) (ClusterKeyRotation, error)

	// MemberDrain says whether a member is drained, and how far it is out of
	// service. DrainMember has it drained, or no longer; the member need not run.
	MemberDrain(ctx context.Context, node string) (MemberDrain, error)
	DrainMember(ctx context.Context, node string, drained bool) (MemberDrain, error)

	// AskMember has a member answer a request that changes nothing: the path of an
	// endpoint with its query.
	AskMember(ctx context.Context, node, path string) (body []byte, err error)
}

// NodeError says why there is nothing of a node in an answer.
type NodeError struct {
	Node  string `json:"node"`
	Error string `json:"error"`
}

// ClusterMembers are the members of a cluster.
type ClusterMembers struct {
	Node     string          `json:"node" doc:"Whose view this is."`
	Answered int             `json:"answered" doc:"How many members have answered."`
	Members  []ClusterMember `json:"members" doc:"By name."`
}

// ClusterMember is one member. What it says of itself is left out when it does not
// answer.
type ClusterMember struct {
	Name    string       `json:"name"`
	Self    bool         `json:"self" doc:"Whether it is the node whose view this is."`
	State   string       `json:"state" enum:"alive,suspect,dead,left"`
	Since   time.Time    `json:"since" doc:"When this node saw the state change."`
	Started *time.Time   `json:"started,omitempty" doc:"When its process began, by its own clock."`
	Address string       `json:"address" doc:"Where it takes gossip."`
	Stream  string       `json:"stream" doc:"Where it takes streams of peers."`
	Version string       `json:"version" doc:"Of its program."`
	WireMin int          `json:"wireMin" doc:"The oldest version of messages between nodes that it reads."`
	WireMax int          `json:"wireMax" doc:"The newest."`
	Drained *DrainNotice `json:"drained,omitempty" doc:"Left out for one that is not."`
	Health  Health       `json:"health,omitempty" enum:"ok,degraded,failing" doc:"As it says itself."`
	Phase   string       `json:"phase,omitempty" enum:"in_service,leaving,withdrawn,drained" doc:"How far it is out of service."`
	VIPs    *VIPCounts   `json:"vips,omitempty"`
	Load    *Load        `json:"load,omitempty"`
	Error   string       `json:"error,omitempty" doc:"Why it has not answered."`
}

// DrainNotice says who has a member drained.
type DrainNotice struct {
	Since time.Time `json:"since"`
	By    string    `json:"by"`
}

// VIPCounts says how many VIPs a node has.
type VIPCounts struct {
	All       int      `json:"all"`
	Owned     int      `json:"owned" doc:"Those that it answers for by ARP and neighbour discovery."`
	Announced int      `json:"announced" doc:"Those that it tells BGP peers of."`
	Some      []string `json:"some" doc:"Owned ones, at most 100."`
}

// Load is what a node carries.
type Load struct {
	PacketsPerSecond float64 `json:"packetsPerSecond" doc:"Received, in the last seconds."`
	BytesPerSecond   float64 `json:"bytesPerSecond"`
	DropsPerSecond   float64 `json:"dropsPerSecond"`
	Flows            *uint64 `json:"flows,omitempty" doc:"In the flow table; left out where they are not counted."`
	FlowCapacity     int     `json:"flowCapacity" doc:"How many the flow table holds."`
}

// ClusterStatus is how a cluster is as a whole.
type ClusterStatus struct {
	Node       string            `json:"node" doc:"Whose view this is."`
	Health     Health            `json:"health" enum:"ok,degraded,failing" doc:"The worst of the conditions."`
	Conditions []Condition       `json:"conditions" doc:"What is not as it is wanted; at most 100."`
	Counts     ClusterCounts     `json:"counts"`
	Wire       int               `json:"wire" doc:"The version of messages that all members that live can read; 0: there is none."`
	Agreements []Agreement       `json:"agreements" doc:"What is to be equal on all members."`
	Mismatches []TableMismatch   `json:"tableMismatches" doc:"Maglev tables that have differed for longer than a change takes to reach all."`
	Members    []ClusterMember   `json:"members" doc:"By name."`
	Shared     map[string]uint64 `json:"shared" doc:"What this node counts of what is shared."`
}

// ClusterCounts says how many members there are.
type ClusterCounts struct {
	Members  int `json:"members" doc:"All that are known; of them:"`
	Alive    int `json:"alive"`
	Suspect  int `json:"suspect"`
	Dead     int `json:"dead"`
	Left     int `json:"left"`
	Drained  int `json:"drained"`
	Answered int `json:"answered"`
}

// Agreement is one thing that is to be equal on all members. It is when there is
// one value.
type Agreement struct {
	What   string       `json:"what" enum:"software,hash_seed,vips,pools,services,settings,tables"`
	Values []NodesValue `json:"values" doc:"That of most members first."`
}

// Agreed reports whether all say the same.
func (a *Agreement) Agreed() bool { return len(a.Values) < 2 }

// NodesValue is what some members have.
type NodesValue struct {
	Value  string   `json:"value"`
	Absent bool     `json:"absent,omitempty" doc:"Whether these have none."`
	Nodes  []string `json:"nodes"`
}

// TableMismatch says that two members choose backends by different tables.
type TableMismatch struct {
	Node  string    `json:"node" doc:"That has found it."`
	Other string    `json:"other" doc:"That it has compared itself with."`
	Since time.Time `json:"since"`
	Count int       `json:"count" doc:"How many pools have tables that differ."`
	Pools []string  `json:"pools" doc:"Some of them."`
}

// ClusterDiff is what differs between members.
type ClusterDiff struct {
	Nodes       []string     `json:"nodes" doc:"That were compared."`
	Same        bool         `json:"same" doc:"Whether nothing differs."`
	Differences []Difference `json:"differences"`
	More        int          `json:"more" doc:"Objects that differ as well and are not listed."`
	Unanswered  []NodeError  `json:"unanswered" doc:"Members that could not be compared."`
}

// Difference is one thing that is not the same on all members.
type Difference struct {
	Kind   string       `json:"kind" doc:"What differs: software, wire, hash_seed, a kind of object as in /v1/config/diff, or table."`
	Name   string       `json:"name,omitempty" doc:"Of the object."`
	Field  string       `json:"field,omitempty" doc:"Of the object, as in the configuration file; left out for what is or is not there."`
	Values []NodesValue `json:"values"`
	Why    string       `json:"why,omitempty" doc:"What a difference of tables comes from."`
}

// ClusterKeys are the keys that gossip is encrypted with. Keys themselves are never
// told.
type ClusterKeys struct {
	Keys       []ClusterKey `json:"keys"`
	Unanswered []NodeError  `json:"unanswered" doc:"Members that have not said which keys they have."`
}

// ClusterKey is one key.
type ClusterKey struct {
	Fingerprint string   `json:"fingerprint"`
	Primary     []string `json:"primary" doc:"Members that encrypt with it."`
	Nodes       []string `json:"nodes" doc:"Members that have it."`
}

// ClusterKeyRotation is what has come of having another key.
type ClusterKeyRotation struct {
	Fingerprint string            `json:"fingerprint" doc:"Of the new key."`
	Complete    bool              `json:"complete" doc:"Whether every member that lives has it and no other."`
	Nodes       []NodeKeyRotation `json:"nodes" doc:"By name."`
}

// NodeKeyRotation is how far a member has come with another key.
type NodeKeyRotation struct {
	Node  string `json:"node"`
	State string `json:"state" doc:"How far it has come."`
	Error string `json:"error,omitempty"`
}

// MemberDrain says whether a member is drained.
type MemberDrain struct {
	Node    string       `json:"node"`
	Drained *DrainNotice `json:"drained,omitempty" doc:"Left out when it is not to be."`
	State   *DrainState  `json:"state,omitempty" doc:"How far it is; left out when it does not answer."`
	Error   string       `json:"error,omitempty" doc:"Why it does not answer."`
}

func registerCluster(r *Router, node ClusterProvider) {
	type none struct{}
	ask := func(path, summary, description string, examples ...Example) Endpoint {
		return Endpoint{Method: http.MethodGet, Path: path, Role: ReadOnly, Tag: "cluster", Summary: summary, Description: description, Examples: examples}
	}
	Handle(r, ask("/v1/cluster/members", "The members of the cluster", "Each is asked how it is; one that does not answer is listed with the reason.",
		Example{Path: "/v1/cluster/members"}), func(ctx context.Context, _ none) (ClusterMembers, error) { return node.ClusterMembers(ctx) })
	Handle(r, ask("/v1/cluster/status", "How the cluster is as a whole", "",
		Example{Path: "/v1/cluster/status"}), func(ctx context.Context, _ none) (ClusterStatus, error) { return node.ClusterStatus(ctx) })
	type diff struct {
		Node string `query:"node" doc:"Compare this node with that one alone; left out, all members."`
	}
	Handle(r, ask("/v1/cluster/diff", "What differs between the members", "",
		Example{Path: "/v1/cluster/diff"}, Example{Path: "/v1/cluster/diff?node=lb2"}),
		func(ctx context.Context, in diff) (ClusterDiff, error) { return node.ClusterDiff(ctx, in.Node) })
	Handle(r, ask("/v1/cluster/keys", "Fingerprints of the keys that gossip is encrypted with", "",
		Example{Path: "/v1/cluster/keys"}), func(ctx context.Context, _ none) (ClusterKeys, error) { return node.ClusterKeys(ctx) })
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/cluster/keys/rotate", Role: Operator, Tag: "cluster", Summary: "Have all members encrypt gossip with another key",
		Description: "The new key is given to all members, then all encrypt with it, then the old one is removed. A member that does not answer gets it when it returns.",
		Examples:    []Example{{Path: "/v1/cluster/keys/rotate"}}, Timeout: rotateWithin,
	}, func(ctx context.Context, _ none) (ClusterKeyRotation, error) { return node.RotateClusterKey(ctx) })
	registerMember(r, node)
}

// rotateWithin is how long giving all members another key may take.
const rotateWithin = 2 * time.Minute

// registerMember registers what is asked of one member, and done to it.
func registerMember(r *Router, node ClusterProvider) {
	type one struct {
		Name string `path:"name" doc:"Name of the member."`
	}
	const drain = "/v1/cluster/members/{name}/drain"
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: drain, Role: ReadOnly, Tag: "cluster", Summary: "Whether a member is drained, and how far it is out of service",
		Examples: []Example{{Path: "/v1/cluster/members/lb2/drain"}},
	}, func(ctx context.Context, in one) (MemberDrain, error) { return node.MemberDrain(ctx, in.Name) })
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: drain, Role: Operator, Tag: "cluster", Summary: "Take a member out of service",
		Description: "As POST /v1/drain on the member itself. A member that does not run, or cannot be reached, is drained as soon as it can be.",
		Examples:    []Example{{Path: "/v1/cluster/members/lb2/drain"}},
	}, func(ctx context.Context, in one) (MemberDrain, error) { return node.DrainMember(ctx, in.Name, true) })
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/cluster/members/{name}/undrain", Role: Operator, Tag: "cluster", Summary: "Put a drained member back in service",
		Examples: []Example{{Path: "/v1/cluster/members/lb2/undrain"}},
	}, func(ctx context.Context, in one) (MemberDrain, error) { return node.DrainMember(ctx, in.Name, false) })
	type asked struct {
		Name string `path:"name" doc:"Name of the member."`
		Path string `query:"path" required:"true" doc:"What it is asked for: the path of an endpoint of its own with its query, such as /v1/services?limit=10. GET alone, and no streams."`
	}
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/cluster/members/{name}/ask", Role: ReadOnly, Tag: "cluster", Summary: "What a member answers to a request that changes nothing",
		Description: "The answer is the member's own. It grants the caller the role that the caller has here.",
		Examples:    []Example{{Path: "/v1/cluster/members/lb2/ask?path=%2Fv1%2Fstatus"}},
	}, func(ctx context.Context, in asked) (rawJSON, error) {
		body, err := node.AskMember(ctx, in.Name, in.Path)
		return rawJSON(body), err
	})
}
