package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"fairlead/cluster/apply"
	"fairlead/cmd/fairlead/internal/preflight"
	"fairlead/configs"
	"fairlead/controlplane/desired"
	"fairlead/controlplane/model"
)

// Desired is what is desired of a node and where that comes from: the store,
// and the configuration file that is one of its sources.
type Desired struct {
	Config *configs.Config // what the node is to start with
	Log    *slog.Logger    // as Config wants it

	path       string
	started    configs.Config // Config as the file has it, whatever flags make of that
	store      *desired.Store
	begun      *desired.Desired
	node       *Node
	attached   chan struct{}                     // closed when changes go through
	sharedFile apply.Content                     // what the file declares of what all nodes of a cluster have the same, at the start
	last       *desired.Desired                  // in force; changed by publish alone
	restart    atomic.Pointer[desired.Condition] // restartNeeded, while it is so
	reloads    reloadCounts
}

// LoadDesired finds out what a node is to start with: its file and, from the
// state directory, what other sources declare and operators have set; or what
// was in force last when the file cannot be used. The state directory is the one
// given; else that of the file; else the default.
func LoadDesired(path, directory string, newLogger func(*configs.Node) *slog.Logger) (*Desired, error) {
	doc, fileErr := configs.ReadFile(path)
	store := configs.Default().Store
	d := &Desired{path: path, attached: make(chan struct{}), Log: newLogger(&configs.Default().Node)}
	if fileErr == nil {
		store, d.Log = doc.Config.Store, newLogger(&doc.Config.Node)
	} else if found, ok := configs.StateDirectoryOf(path); ok {
		store.Directory = found
	}
	if directory != "" {
		store.Directory = directory
	}
	var live []string
	if fileErr != nil || doc.Config.Kubernetes.Enabled { // a file that cannot be read says nothing of it
		live = append(live, sourceKubernetes)
	}
	d.store = desired.Open(desired.Config{
		Directory: store.Directory, RemovalGuard: store.RemovalGuard, Parse: parseDeclaration, Live: live, Check: checkAddresses, Log: d.Log,
	})
	var file *desired.Declaration
	var others map[string]*desired.Declaration
	var err error
	if fileErr == nil {
		file = declarationOf(desired.SourceFile, path, doc)
		if others, err = d.beginning(doc); err != nil {
			return nil, err
		}
	}
	if d.begun, err = d.store.BeginWith(file, fileErr, others); err != nil {
		return nil, err
	}
	d.last = d.begun
	if d.Config, err = configOf(d.begun); err != nil {
		return nil, err
	}
	if directory != "" {
		d.Config.Store.Directory = directory
	}
	d.started = *d.Config
	if fileErr != nil {
		d.Log = newLogger(&d.Config.Node)
	}
	return d, nil
}

// parseDeclaration implements desired.Parser. What other nodes have declared may
// be of newer software.
func parseDeclaration(source, name string, text []byte) (*desired.Declaration, error) {
	var doc *configs.Document
	var err error
	if source == desired.SourceFile {
		doc, err = configs.Read(name, text)
	} else if doc, err = configs.ReadObjects(name, text); err != nil {
		if shared, tolerated := configs.ReadShared(name, text, true); tolerated == nil {
			doc, err = shared, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return declarationOf(source, name, doc), nil
}

// declarationOf is what a document declares. Of the file of a node that is one of
// several, what all nodes have the same is another source's.
func declarationOf(source, name string, doc *configs.Document) *desired.Declaration {
	d := &desired.Declaration{Source: source, Name: name, Text: doc.Text, Document: doc, State: &doc.Config.State}
	if source == desired.SourceFile && doc.Config.Cluster.Enabled {
		own := doc.Config.State
		own.Services, own.Pools, own.VIPs = nil, nil, nil
		d.State = &own
	}
	return d
}

// configOf is the file's configuration with the state that all sources declare
// together.
func configOf(d *desired.Desired) (*configs.Config, error) {
	file := d.Declarations[desired.SourceFile]
	if file == nil {
		return nil, errors.New("no configuration file is in force")
	}
	doc, ok := file.Document.(*configs.Document)
	if !ok {
		return nil, fmt.Errorf("the configuration file is a %T", file.Document)
	}
	cfg := *doc.Config
	cfg.State = *d.State
	return &cfg, nil
}

// checkAddresses finds addresses that the host has itself.
func checkAddresses(d *desired.Desired) error {
	cfg, err := configOf(d)
	if err != nil {
		return err
	}
	if err := preflight.Errors(preflight.Addresses(cfg)); err != nil {
		return &addressError{err}
	}
	return nil
}

// addressError says that the host has addresses itself that are declared.
type addressError struct{ error }

func (e *addressError) Unwrap() error { return e.error }

// sourceKubernetes is the live source that a Kubernetes cluster is.
const sourceKubernetes = "kubernetes"

// Kubernetes takes what a Kubernetes cluster wants. It takes no changes before
// Attached.
func (d *Desired) Kubernetes() *desired.LiveSource { return d.store.Live(sourceKubernetes) }

// Attached is closed when changes go through.
func (d *Desired) Attached() <-chan struct{} { return d.attached }

// Follow has the node start with what is desired, and tell of it.
func (n *Node) Follow(d *Desired) { n.desired, d.node = d, n }

// settings are what operators have set of backends when the node starts.
func (n *Node) settings() []model.BackendSetting {
	if n.desired == nil {
		return nil
	}
	return n.desired.begun.Settings
}

// Attach lets changes through, now that the node has started.
func (d *Desired) Attach() {
	d.store.Attach(d.publish)
	close(d.attached)
}

// Run sees to what nobody asks for, such as changes that are not confirmed in
// time, until ctx ends.
func (d *Desired) Run(ctx context.Context) { d.store.Run(ctx) }

// publish puts a version in force. It is called for one version at a time.
func (d *Desired) publish(next *desired.Desired) error {
	cfg, err := configOf(next)
	if err != nil {
		return err
	}
	declared := !maps.EqualFunc(next.Version.Sources, d.last.Version.Sources, func(a, b desired.Ref) bool { return a.Digest == b.Digest })
	live := next.Live != d.last.Live
	switch {
	case !declared && !live:
		err = d.node.serving.Set(next.Settings) // nothing is declared otherwise
	case !declared && next.Pools != nil:
		err = d.node.ApplyPools(next.State, next.Pools)
	default:
		_, err = d.node.Apply(cfg, next.Settings)
	}
	if err != nil {
		return err
	}
	d.last = next
	if live && !declared {
		return nil // as often as pods come and go
	}
	d.compareStart(cfg)
	s := d.node.reconciler.Status()
	d.Log.Info("configuration in force", "version", next.Version.Number, "source", next.Version.Author.Source, "user", next.Version.Author.User, "node", next.Version.Author.Node,
		"summary", next.Version.Summary.String(), "generation", s.Generation, "patched", s.Patched, "took", s.Took)
	return nil
}

// Reload reads the file again and makes it what its source declares. Of other
// nodes it says what an operator should know.
func (d *Desired) Reload(ctx context.Context, r desired.Request, o ChangeOptions) (*desired.Result, []string, error) {
	result, warnings, err := d.reload(ctx, r, o)
	if !r.DryRun {
		d.countReload(result, err)
	}
	switch guard := (*desired.GuardError)(nil); {
	case r.DryRun:
	case errors.As(err, &guard):
		d.Log.Error("configuration removes too much; nothing changes: `fairlead config reload --force` if it is meant", "error", err)
	case err != nil:
		d.Log.Error("configuration is refused; nothing changes", "error", err)
	case !result.Changed:
		d.Log.Info("configuration read again; nothing has changed", "version", result.Version.Number)
	}
	return result, warnings, err
}

func (d *Desired) reload(ctx context.Context, r desired.Request, o ChangeOptions) (result *desired.Result, warnings []string, err error) {
	defer func() {
		if err != nil && !r.DryRun {
			d.store.RefuseFile(err)
		}
	}()
	doc, err := configs.ReadFile(d.path)
	if err != nil {
		return nil, nil, err
	}
	a, file := d.sharing(), declarationOf(desired.SourceFile, d.path, doc)
	enabled := doc.Config.Cluster.Enabled
	switch {
	case a == nil && !enabled:
		result, err = d.store.Declare(file, r)
		return result, nil, err
	case !enabled:
		return nil, nil, &desired.RequestError{Message: "the file has no [cluster] any more; the node leaves the cluster when it is started again"}
	}
	content, part, err := sharedPart(d.path, doc)
	if err != nil {
		return nil, nil, err
	}
	var more []*desired.Declaration
	publishes := a == nil || a.PublishesFile(content, o.Publish)
	if publishes {
		more = append(more, part)
	}
	result, warnings, err = d.change(ctx, r, o, func(r desired.Request) (*desired.Result, error) {
		return d.store.DeclareAll(r, file, more...)
	})
	if err == nil && !r.DryRun && a != nil {
		a.FileRead(content, publishes)
	}
	return result, warnings, err
}

// reloadWithin is how long a reload that nobody waits for may take.
const reloadWithin = 3 * time.Minute

// ReloadNow is Reload for who does not read an answer: what comes of it is logged.
func (d *Desired) ReloadNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reloadWithin)
	defer cancel()
	_, warnings, _ := d.Reload(ctx, desired.Request{User: "SIGHUP"}, ChangeOptions{})
	for _, w := range warnings {
		d.Log.Warn("reload: " + w)
	}
}

// liveSections are the parts of a configuration that change without a restart.
var liveSections = map[string]bool{"State": true, "Neighbors": true, "BGP": true}

// tables are the names in the file of parts that go by another one.
var tables = map[string]string{"Store": "state", "Interfaces": "interface"}

// restartNeeded is the condition that the file has settings that take effect at
// the node's next start.
const restartNeeded = "restart_required"

// compareStart notes whether what is in force has settings that the node has not
// started with, and which it therefore does not have.
func (d *Desired) compareStart(cfg *configs.Config) {
	var differ []string
	now, started := reflect.ValueOf(cfg).Elem(), reflect.ValueOf(&d.started).Elem()
	for i := range now.NumField() {
		name := now.Type().Field(i).Name
		if !liveSections[name] && !reflect.DeepEqual(now.Field(i).Interface(), started.Field(i).Interface()) {
			table, known := tables[name]
			if !known {
				table = strings.ToLower(name)
			}
			differ = append(differ, "["+table+"]")
		}
	}
	if len(differ) == 0 {
		d.restart.Store(nil)
		return
	}
	c := &desired.Condition{Type: restartNeeded, Since: time.Now().UTC().Round(0), Message: "settings that take effect when the node is started again: " + strings.Join(differ, ", ")}
	if before := d.restart.Load(); before != nil {
		c.Since = before.Since
	}
	d.restart.Store(c)
	d.Log.Warn("the file has " + c.Message)
}
