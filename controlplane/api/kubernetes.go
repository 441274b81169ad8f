package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// KubernetesProvider says how a node serves a Kubernetes cluster.
type KubernetesProvider interface {
	KubernetesStatus(ctx context.Context) (KubernetesStatus, error)
	// KubernetesObjects lists the Services and Gateways that are served, by kind,
	// namespace and name.
	KubernetesObjects(ctx context.Context, q KubernetesQuery) (KubernetesPage, error)
}

// KubernetesState says whether a node has a connection to the API server.
type KubernetesState string

// The states.
const (
	KubernetesOff        KubernetesState = "off"        // there is no [kubernetes]
	KubernetesConnecting KubernetesState = "connecting" // not all has been seen yet, since the node's start
	KubernetesConnected  KubernetesState = "connected"
	KubernetesAway       KubernetesState = "away" // what was seen last stays in force
)

// KubernetesStatus is how a node serves a Kubernetes cluster.
type KubernetesStatus struct {
	State   KubernetesState      `json:"state" enum:"off,connecting,connected,away"`
	Since   *time.Time           `json:"since,omitempty" doc:"When it became so; left out where there is no [kubernetes]."`
	Error   string               `json:"error,omitempty" doc:"What keeps the node from being connected."`
	Server  string               `json:"server,omitempty" doc:"URL of the API server."`
	Version string               `json:"version,omitempty" doc:"Of the API server."`
	Synced  *time.Time           `json:"synced,omitempty" doc:"When all objects had been seen, since the node's start; left out before."`
	Writer  string               `json:"writer,omitempty" doc:"The node that writes to Kubernetes, as far as this one knows."`
	Writing bool                 `json:"writing" doc:"Whether it is this one."`
	Watched []KubernetesResource `json:"watched" doc:"What is watched, by name."`
	Groups  int                  `json:"groups" doc:"How many objects are in force in the data path."`
	Pending int                  `json:"pending" doc:"How many have changed, and the data path does not go by it yet."`
	Refused []KubernetesRefusal  `json:"refused" doc:"Objects that are not in force as they are wanted."`
	Lag     *float64             `json:"lagSeconds,omitempty" doc:"How long the last change took from the watch to the data path; left out before there was one."`
	Nodes   []KubernetesNode     `json:"nodes" doc:"What the nodes of the cluster tell of themselves, this one among them, by name."`
}

// KubernetesResource is one kind of objects that is watched.
type KubernetesResource struct {
	Name    string `json:"name" doc:"As RBAC has it: services, endpointslices.discovery.k8s.io, ..."`
	Objects int    `json:"objects"`
	Synced  bool   `json:"synced" doc:"Whether all of them have been seen."`
	Error   string `json:"error,omitempty" doc:"Why they cannot be watched, such as a permission that is missing."`
}

// KubernetesRefusal is an object that could not be put in force.
type KubernetesRefusal struct {
	Kind      string    `json:"kind" enum:"service,gateway"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error"`
	Earlier   bool      `json:"earlier" doc:"Whether an earlier version of it is in force."`
}

// KubernetesNode is what a node tells the others.
type KubernetesNode struct {
	Name    string          `json:"name"`
	State   KubernetesState `json:"state" enum:"off,connecting,connected,away"`
	Groups  int             `json:"groups"`
	Refused int             `json:"refused"`
	Writer  bool            `json:"writer"`
	Error   string          `json:"error,omitempty"`
}

// KubernetesQuery says which objects are asked for.
type KubernetesQuery struct {
	Kind      string `query:"kind" doc:"Only objects of this kind: service or gateway."`
	Namespace string `query:"namespace" doc:"Only objects of this namespace."`
	Name      string `query:"name" doc:"Only objects of this name."`
	Problems  bool   `query:"problems" doc:"Only objects with problems." default:"false"`
	After     string `query:"after" doc:"Where the page begins: next of the page before."`
	Limit     int    `query:"limit" doc:"How many objects a page has at most." default:"100" minimum:"1" maximum:"1000"`
}

// KubernetesPage is a page of objects.
type KubernetesPage struct {
	Objects []KubernetesObject `json:"objects"`
	Next    string             `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// KubernetesObject is one Service or Gateway that is served.
type KubernetesObject struct {
	Kind       string              `json:"kind" enum:"service,gateway"`
	Namespace  string              `json:"namespace"`
	Name       string              `json:"name"`
	Addresses  []string            `json:"addresses" doc:"Of its status: its VIPs."`
	Ports      []string            `json:"ports" doc:"Such as tcp/80."`
	Method     string              `json:"method" enum:"pods,nodeports,nodes" doc:"How packets get to its pods."`
	Ready      int                 `json:"ready" doc:"Backends that get new flows."`
	Draining   int                 `json:"draining" doc:"Backends that keep the flows they have."`
	Programmed []string            `json:"programmed" doc:"The nodes whose data path has it."`
	Nodes      int                 `json:"nodes" doc:"Of how many."`
	Problems   []KubernetesProblem `json:"problems"`
}

// KubernetesProblem is something about an object that is not as it is wanted.
type KubernetesProblem struct {
	Severity string `json:"severity" enum:"Normal,Warning"`
	Reason   string `json:"reason" doc:"As in Events and conditions."`
	Message  string `json:"message"`
}

func registerKubernetes(r *Router, node KubernetesProvider) {
	type none struct{}
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/kubernetes", Role: ReadOnly, Tag: "kubernetes", Summary: "How the node serves a Kubernetes cluster",
		Examples: []Example{{Path: "/v1/kubernetes"}},
	}, func(ctx context.Context, _ none) (KubernetesStatus, error) { return node.KubernetesStatus(ctx) })
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/kubernetes/objects", Role: ReadOnly, Tag: "kubernetes", Summary: "The Services and Gateways that the node serves",
		Examples: []Example{{Path: "/v1/kubernetes/objects"}, {Path: "/v1/kubernetes/objects?kind=service&namespace=default&problems=true"}},
	}, func(ctx context.Context, q KubernetesQuery) (KubernetesPage, error) {
		return node.KubernetesObjects(ctx, q)
	})
}

// KubernetesStatus asks how the node serves a Kubernetes cluster.
func (c *Client) KubernetesStatus(ctx context.Context) (*KubernetesStatus, error) {
	var s KubernetesStatus
	return &s, c.Call(ctx, http.MethodGet, "/v1/kubernetes", nil, nil, &s)
}

// KubernetesObjects asks for the Services and Gateways that the query asks for, one
// after the other.
func (c *Client) KubernetesObjects(ctx context.Context, query url.Values, f func(*KubernetesObject) error) error {
	return pages(ctx, c, "/v1/kubernetes/objects", query, func(p *KubernetesPage) ([]KubernetesObject, string) { return p.Objects, p.Next }, f)
}
