package api

import (
	"context"
	"net/http"
)

// FactsProvider says of the node what members of a cluster compare.
type FactsProvider interface {
	Facts(ctx context.Context) (NodeFacts, error)
	// Objects are the objects of one kind that the node has, by name.
	Objects(ctx context.Context, q ObjectQuery) (Objects, error)
	// PoolTables are the checksums of all pools' Maglev tables, by pool.
	PoolTables(ctx context.Context) (PoolTables, error)
	// NodeKeys are the keys that the node has for gossip.
	NodeKeys(ctx context.Context) (NodeKeys, error)
}

// NodeKeys are the keys that a node has for gossip.
type NodeKeys struct {
	Fingerprints []string `json:"fingerprints" doc:"That of the key that it encrypts with first."`
}

// NodeFacts is what a member says of itself in short.
type NodeFacts struct {
	Node       string       `json:"node"`
	Version    string       `json:"version" doc:"Of its program."`
	Health     Health       `json:"health" enum:"ok,degraded,failing"`
	Conditions int          `json:"conditions" doc:"How many things are not as they are wanted; see /v1/status."`
	Phase      string       `json:"phase" enum:"in_service,leaving,withdrawn,drained"`
	VIPs       VIPCounts    `json:"vips"`
	Load       Load         `json:"load"`
	Config     uint64       `json:"config" doc:"Version of the desired state, by the node's own count."`
	HashSeed   string       `json:"hashSeed" doc:"A digest of the seed."`
	Kinds      []KindFacts  `json:"kinds" doc:"What is declared, and what operators have set."`
	Tables     TableFacts   `json:"tables"`
	Lost       []LostMember `json:"lost" doc:"Members that it does not take for alive."`
}

// KindFacts sums up the objects of one kind.
type KindFacts struct {
	Kind   string `json:"kind" enum:"vip,pool,service,setting"`
	Count  int    `json:"count"`
	Digest string `json:"digest" doc:"Equal on nodes with equal objects."`
}

// TableFacts sums up the Maglev tables of all pools.
type TableFacts struct {
	Pools  int    `json:"pools"`
	Digest string `json:"digest" doc:"Equal on nodes with equal tables."`
}

// LostMember is a member that a node does not take for alive.
type LostMember struct {
	Node  string `json:"node"`
	State string `json:"state" enum:"suspect,dead,left"`
}

// ObjectQuery says which objects are asked for.
type ObjectQuery struct {
	Kind string   `query:"kind" required:"true" enum:"vip,pool,service,setting" doc:"Of what kind."`
	Name []string `query:"name" doc:"Objects that are given with their fields; may be given several times. Left out: all, without fields."`
}

// Objects are objects of one kind.
type Objects struct {
	Kind    string   `json:"kind"`
	Objects []Object `json:"objects" doc:"By name."`
}

// Object is one object that is declared, or set by operators.
type Object struct {
	Name   string        `json:"name"`
	Digest string        `json:"digest" doc:"Equal on nodes with equal objects."`
	Fields []ObjectField `json:"fields,omitempty" doc:"Those that are not the default, where they are asked for. Those of a pool's backends begin with backend and its address."`
}

// ObjectField is one field of an object, written as in the configuration file.
type ObjectField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// PoolTables are the Maglev tables of all pools.
type PoolTables struct {
	Pools []PoolTable `json:"pools" doc:"By name."`
}

// PoolTable is the Maglev table of one pool.
type PoolTable struct {
	Pool     string `json:"pool"`
	Checksum string `json:"checksum"`
}

func registerFacts(r *Router, node FactsProvider) {
	type none struct{}
	of := func(path, summary string, examples ...Example) Endpoint {
		return Endpoint{Method: http.MethodGet, Path: path, Role: ReadOnly, Tag: "cluster", Summary: summary, Examples: examples}
	}
	Handle(r, of("/v1/facts", "What the node says of itself in short, for members of its cluster to compare", Example{Path: "/v1/facts"}),
		func(ctx context.Context, _ none) (NodeFacts, error) { return node.Facts(ctx) })
	Handle(r, of("/v1/facts/objects", "The objects of one kind that the node has", Example{Path: "/v1/facts/objects?kind=pool"}, Example{Path: "/v1/facts/objects?kind=service&name=web"}), node.Objects)
	Handle(r, of("/v1/facts/tables", "The checksums of all pools' Maglev tables", Example{Path: "/v1/facts/tables"}),
		func(ctx context.Context, _ none) (PoolTables, error) { return node.PoolTables(ctx) })
	Handle(r, of("/v1/facts/keys", "Fingerprints of the keys that the node has for gossip", Example{Path: "/v1/facts/keys"}),
		func(ctx context.Context, _ none) (NodeKeys, error) { return node.NodeKeys(ctx) })
}
