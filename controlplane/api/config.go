package api

import (
	"context"
	"net/http"
	"time"
)

// ConfigProvider changes what is desired of the node, and tells of it.
type ConfigProvider interface {
	// ApplyConfig makes a document all that operators have sent to the node.
	ApplyConfig(ctx context.Context, q ApplyConfig) (ConfigResult, error)
	// ReloadConfig reads the node's file again.
	ReloadConfig(ctx context.Context, q ChangeConfig) (ConfigResult, error)
	// RollbackConfig makes an earlier version desired again; 0: the one before.
	RollbackConfig(ctx context.Context, q RollbackConfig) (ConfigResult, error)
	// ConfirmConfig lets the change stay that waits for it.
	ConfirmConfig(ctx context.Context) (ConfigVersion, error)
	// DiffConfig says what a document, an earlier version, or the node's file
	// would change.
	DiffConfig(ctx context.Context, q DiffConfig) (ConfigResult, error)
	// ConfigHistory lists the versions that are kept, the latest first.
	ConfigHistory(ctx context.Context) (ConfigHistory, error)
	// Config gives one version with what its sources declare; 0: that in force.
	Config(ctx context.Context, version uint64) (VersionedConfig, error)
	// BackendSettings are what operators have set of backends.
	BackendSettings(ctx context.Context) (BackendSettings, error)
	// SetBackend does what an operator wants of a backend.
	SetBackend(ctx context.Context, q SetBackend) (ConfigResult, error)
}

// ChangeConfig is how a change of the configuration is made.
type ChangeConfig struct {
	Comment string `query:"comment" doc:"Why, for the history; up to 1000 bytes."`
	Force   bool   `query:"force" doc:"Whether it may remove more than the guard lets it." default:"false"`
	DryRun  bool   `query:"dryRun" doc:"Whether it is only found out what the change would be." default:"false"`

	RequireAll bool `query:"requireAll" doc:"In a cluster: whether the change is made on all nodes that have not left, or on none." default:"false"`
	Publish    bool `query:"publish" doc:"In a cluster: whether the services, pools and VIPs of this node's file take the place of the cluster's, also when the file has not changed." default:"false"`
}

// ApplyConfig is a document with what there is to change.
type ApplyConfig struct {
	Name       string   `query:"name" doc:"What the document is called in messages, such as the name of its file." default:"document"`
	Comment    string   `query:"comment" doc:"Why, for the history; up to 1000 bytes."`
	Force      bool     `query:"force" doc:"Whether it may remove more than the guard lets it." default:"false"`
	DryRun     bool     `query:"dryRun" doc:"Whether it is only found out what the change would be." default:"false"`
	Confirm    Duration `query:"confirm" doc:"The change is undone unless it is confirmed within this time, 1s to 24h; left out, it stays."`
	RequireAll bool     `query:"requireAll" doc:"In a cluster: whether the change is made on all nodes that have not left, or on none." default:"false"`
	Text       []byte   `body:"application/toml" doc:"Services, pools, VIPs and SNAT addresses in TOML: all that there are to be of this source."`
}

// RollbackConfig says which version is to be desired again.
type RollbackConfig struct {
	Version uint64 `query:"version" doc:"Number of the version; left out, the one before."`
	Comment string `query:"comment" doc:"Why, for the history; up to 1000 bytes."`
	Force   bool   `query:"force" doc:"Whether it may remove more than the guard lets it." default:"false"`
	DryRun  bool   `query:"dryRun" doc:"Whether it is only found out what the change would be." default:"false"`

	RequireAll bool `query:"requireAll" doc:"In a cluster: whether the change is made on all nodes that have not left, or on none." default:"false"`
}

// DiffConfig says what is compared with what is in force.
type DiffConfig struct {
	Version uint64 // an earlier version; 0: a document
	File    bool   // the document is the node's own file, not what operators send
	Name    string // of the document in messages
	Text    []byte // of the document; nil with File: the node's file as it is now
}

// ConfigResult is what a change has done, or would do.
type ConfigResult struct {
	Version  ConfigVersion  `json:"version" doc:"In force afterwards; of a dry run the one that would be."`
	Changed  bool           `json:"changed" doc:"Whether it is another version than before."`
	DryRun   bool           `json:"dryRun" doc:"Whether nothing was done."`
	Changes  []ConfigChange `json:"changes" doc:"To what was in force."`
	Warnings []string       `json:"warnings,omitempty" doc:"In a cluster: which nodes were not asked, and what their software does not know."`
	Guarded  string         `json:"guarded,omitempty" doc:"Why the change would have to be forced; of a comparison alone."`
}

// ConfigChange is what happens to one object.
type ConfigChange struct {
	Op     string        `json:"op" enum:"added,removed,changed"`
	Kind   string        `json:"kind" enum:"hash_seed,tunnel,limits,vip,snat,pool,backend,service,setting"`
	Pool   string        `json:"pool,omitempty" doc:"Of a backend, or of the backend that a setting is of."`
	Name   string        `json:"name,omitempty" doc:"Left out for what there is one of."`
	Fields []ConfigField `json:"fields" doc:"Those that differ; of an object that is added or removed those that are not the default."`
}

// ConfigField is one field of an object, written as in the configuration file.
type ConfigField struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// ConfigVersion is a version of what is desired.
type ConfigVersion struct {
	Number  uint64         `json:"number"`
	Time    time.Time      `json:"time" doc:"When the change was made."`
	Source  string         `json:"source" doc:"Who declared something else: file, api, ..., or operator for settings of backends and rollbacks."`
	User    string         `json:"user,omitempty"`
	Node    string         `json:"node,omitempty" doc:"Of a cluster, that the change was made on; left out: this one."`
	Comment string         `json:"comment,omitempty"`
	Summary string         `json:"summary" doc:"What it changed, counted: +2 services, ~1 pool."`
	Pending *PendingChange `json:"pending,omitempty" doc:"The change that waits to be confirmed; left out when none does."`
}

// PendingChange is a change that is undone unless it is confirmed.
type PendingChange struct {
	Version uint64    `json:"version" doc:"That the change made."`
	Until   time.Time `json:"until" doc:"When it is undone."`
}

// ConfigHistory are the versions that are kept.
type ConfigHistory struct {
	Versions []ConfigVersion `json:"versions" doc:"The latest first."`
}

// VersionedConfig is one version with what its sources declare.
type VersionedConfig struct {
	Version  ConfigVersion    `json:"version"`
	Sources  []ConfigSource   `json:"sources"`
	Settings []BackendSetting `json:"settings"`
}

// ConfigSource is what one source declares.
type ConfigSource struct {
	Source   string `json:"source"`
	Name     string `json:"name,omitempty" doc:"Of its text, such as the path of the node's file."`
	Text     string `json:"text,omitempty" doc:"In TOML; left out for a source that is no text."`
	Services int    `json:"services"`
	Pools    int    `json:"pools"`
	Backends int    `json:"backends"`
}

// BackendSettings are what operators have set of backends.
type BackendSettings struct {
	Settings []BackendSetting `json:"settings" doc:"By pool and address."`
}

// BackendSetting is what operators have set of a backend.
type BackendSetting struct {
	Pool     string     `json:"pool"`
	Backend  string     `json:"backend" doc:"Its address and port."`
	State    string     `json:"state" enum:"enabled,drained,disabled"`
	Deadline *time.Time `json:"deadline,omitempty" doc:"When the flows of a drained backend are ended; left out: never."`
	Weight   *int       `json:"weight,omitempty" doc:"In place of the declared one."`
}

// SetBackend is what an operator wants of a backend.
type SetBackend struct {
	Pool    string   `json:"pool"`
	Backend string   `json:"backend" doc:"Its address and port, its address where no other backend of the pool has it, or its name."`
	State   string   `json:"state,omitempty" enum:"enabled,drained,disabled" doc:"Left out: as it is."`
	Timeout Duration `json:"timeout,omitzero" doc:"How long the flows of a drained backend go on, 1s to 576h; left out: to their end."`
	Weight  *int     `json:"weight,omitempty" minimum:"-1" maximum:"65535" doc:"In place of the declared one; -1 gives that back; left out: as it is."`
	Comment string   `json:"comment,omitempty" doc:"Why, for the history; up to 1000 bytes."`
}

// MaxConfig is how large a document may be in bytes.
const MaxConfig = 64 << 20

// configTimeout is how long a change may take: a large node is compiled, and
// the ways to new backends are found out first.
const configTimeout = 2 * time.Minute

const exampleDocument = `[[pool]]
name = "shop"
[[pool.backend]]
address = "198.18.10.7:8080"
`

func registerConfig(r *Router, node ConfigProvider) {
	of := func(method, path string, role Role, summary, description string, examples ...Example) Endpoint {
		return Endpoint{Method: method, Path: path, Role: role, Tag: "configuration", Summary: summary, Description: description, Examples: examples, Timeout: configTimeout}
	}
	apply := of(http.MethodPost, "/v1/config/apply", Operator, "Send services, pools, VIPs and SNAT addresses",
		"The document takes the place of the one that was sent before: it is all that there is of this source. What the node's file declares is not touched.",
		Example{Path: "/v1/config/apply?name=shop.toml&comment=why&confirm=5m", Body: exampleDocument}, Example{Path: "/v1/config/apply?dryRun=true&force=true", Body: "# nothing\n"})
	apply.MaxBody = MaxConfig
	Handle(r, apply, node.ApplyConfig)
	Handle(r, of(http.MethodPost, "/v1/config/reload", Operator, "Read the node's file again", "", Example{Path: "/v1/config/reload?force=true&dryRun=true&comment=why"}), node.ReloadConfig)
	Handle(r, of(http.MethodPost, "/v1/config/rollback", Operator, "Return to an earlier version",
		"What the sources declared then is desired again, as a new version. Settings of backends stay as they are; backends that come back have those of then.",
		Example{Path: "/v1/config/rollback?version=3&dryRun=true"}, Example{Path: "/v1/config/rollback"}), node.RollbackConfig)
	Handle(r, of(http.MethodPost, "/v1/config/confirm", Operator, "Let the change stay that waits to be confirmed", "", Example{Path: "/v1/config/confirm"}),
		func(ctx context.Context, _ struct{}) (ConfigVersion, error) { return node.ConfirmConfig(ctx) })
	Handle(r, of(http.MethodGet, "/v1/config/history", ReadOnly, "The versions that are kept", "", Example{Path: "/v1/config/history"}),
		func(ctx context.Context, _ struct{}) (ConfigHistory, error) { return node.ConfigHistory(ctx) })
	registerConfigDiff(r, node, of)

	type version struct {
		Version uint64 `query:"version" doc:"Number of the version; left out, the one in force."`
	}
	Handle(r, of(http.MethodGet, "/v1/config", Operator, "A version with what its sources declare",
		"Texts are as they were declared. The hash seed is in them, with which a client could choose the backend that it meets.", Example{Path: "/v1/config"}, Example{Path: "/v1/config?version=3"}),
		func(ctx context.Context, in version) (VersionedConfig, error) { return node.Config(ctx, in.Version) })
	Handle(r, of(http.MethodGet, "/v1/backend-settings", ReadOnly, "What operators have set of backends", "", Example{Path: "/v1/backend-settings"}),
		func(ctx context.Context, _ struct{}) (BackendSettings, error) { return node.BackendSettings(ctx) })
	type set struct {
		SetBackend SetBackend `body:"application/json"`
	}
	Handle(r, of(http.MethodPost, "/v1/backend-settings", Operator, "Drain, enable, disable or weigh a backend",
		"A setting outlives reloads and restarts, and goes with its backend.",
		Example{Path: "/v1/backend-settings", Body: `{"pool":"web","backend":"198.18.10.101:8080","state":"drained","timeout":"5m","weight":1,"comment":"why"}`}),
		func(ctx context.Context, in set) (ConfigResult, error) { return node.SetBackend(ctx, in.SetBackend) })
}

// registerConfigDiff registers the comparisons.
func registerConfigDiff(r *Router, node ConfigProvider, of func(method, path string, role Role, summary, description string, examples ...Example) Endpoint) {
	type stored struct {
		Version uint64 `query:"version" doc:"Number of an earlier version; left out, the node's file as it is now."`
	}
	Handle(r, of(http.MethodGet, "/v1/config/diff", ReadOnly, "What an earlier version, or the node's file, would change", "",
		Example{Path: "/v1/config/diff"}, Example{Path: "/v1/config/diff?version=3"}),
		func(ctx context.Context, in stored) (ConfigResult, error) {
			return node.DiffConfig(ctx, DiffConfig{Version: in.Version, File: in.Version == 0})
		})
	type sent struct {
		Name   string `query:"name" doc:"What the document is called in messages." default:"document"`
		Source string `query:"source" enum:"api,file" default:"api" doc:"Whose declaration it would take the place of: what operators have sent, or the node's own file."`
		Text   []byte `body:"application/toml" doc:"The document in TOML."`
	}
	diff := of(http.MethodPost, "/v1/config/diff", ReadOnly, "What a document would change", "",
		Example{Path: "/v1/config/diff?name=shop.toml&source=api", Body: exampleDocument})
	diff.MaxBody = MaxConfig
	Handle(r, diff, func(ctx context.Context, in sent) (ConfigResult, error) {
		return node.DiffConfig(ctx, DiffConfig{File: in.Source == "file", Name: in.Name, Text: in.Text})
	})
}

// Desired is how what is desired of the node is.
type Desired struct {
	Version    uint64             `json:"version" doc:"In force; 0: the node has none."`
	Time       *time.Time         `json:"time,omitempty" doc:"When it was made."`
	Source     string             `json:"source,omitempty"`
	User       string             `json:"user,omitempty"`
	Node       string             `json:"node,omitempty" doc:"Of a cluster, that the change was made on; left out: this one."`
	Pending    *PendingChange     `json:"pending,omitempty" doc:"The change that waits to be confirmed; left out when none does."`
	Conditions []DesiredCondition `json:"conditions" doc:"What an operator should know of it."`
}

// DesiredCondition is one thing that is so.
type DesiredCondition struct {
	Type    string    `json:"type" enum:"file_refused,file_overruled,not_stored,state_damaged,rollback_failed,restart_required,cluster_not_adopted,cluster_node_behind,cluster_unknown_keys,cluster_file_differs,cluster_replaced,cluster_hash_seed"`
	Since   time.Time `json:"since"`
	Message string    `json:"message"`
}
