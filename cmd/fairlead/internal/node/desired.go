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

	path    string
	started configs.Config // Config as the file has it, whatever flags make of that
	store   *desired.Store
	begun   *desired.Desired
	node    *Node
	last    *desired.Desired                  // in force; changed by publish alone
	restart atomic.Pointer[desired.Condition] // restartNeeded, while it is so
	reloads reloadCounts
}

// LoadDesired finds out what a node is to start with: its file and, from the
// state directory, what other sources declare and operators have set; or what
// was in force last when the file cannot be used. The state directory is the one
// given; else that of the file; else the default.
func LoadDesired(path, directory string, newLogger func(*configs.Node) *slog.Logger) (*Desired, error) {
	doc, fileErr := configs.ReadFile(path)
	store := configs.Default().Store
	d := &Desired{path: path, Log: newLogger(&configs.Default().Node)}
	if fileErr == nil {
		store, d.Log = doc.Config.Store, newLogger(&doc.Config.Node)
	} else if found, ok := configs.StateDirectoryOf(path); ok {
		store.Directory = found
	}
	if directory != "" {
		store.Directory = directory
	}
	d.store = desired.Open(desired.Config{
		Directory: store.Directory, RemovalGuard: store.RemovalGuard, Parse: parseDeclaration, Check: checkAddresses, Log: d.Log,
	})
	var file *desired.Declaration
	if fileErr == nil {
		file = declarationOf(desired.SourceFile, path, doc)
	}
	var err error
	if d.begun, err = d.store.Begin(file, fileErr); err != nil {
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

// parseDeclaration implements desired.Parser.
func parseDeclaration(source, name string, text []byte) (*desired.Declaration, error) {
	read := configs.ReadObjects
	if source == desired.SourceFile {
		read = configs.Read
	}
	doc, err := read(name, text)
	if err != nil {
		return nil, err
	}
	return declarationOf(source, name, doc), nil
}

func declarationOf(source, name string, doc *configs.Document) *desired.Declaration {
	return &desired.Declaration{Source: source, Name: name, Text: doc.Text, Document: doc, State: &doc.Config.State}
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
func (d *Desired) Attach() { d.store.Attach(d.publish) }

// Run sees to what nobody asks for, such as changes that are not confirmed in
// time, until ctx ends.
func (d *Desired) Run(ctx context.Context) { d.store.Run(ctx) }

// publish puts a version in force. It is called for one version at a time.
func (d *Desired) publish(next *desired.Desired) error {
	cfg, err := configOf(next)
	if err != nil {
		return err
	}
	if maps.EqualFunc(next.Version.Sources, d.last.Version.Sources, func(a, b desired.Ref) bool { return a.Digest == b.Digest }) {
		err = d.node.serving.Set(next.Settings) // nothing is declared otherwise
	} else {
		_, err = d.node.Apply(cfg, next.Settings)
	}
	if err != nil {
		return err
	}
	d.last = next
	d.compareStart(cfg)
	s := d.node.reconciler.Status()
	d.Log.Info("configuration in force", "version", next.Version.Number, "source", next.Version.Author.Source, "user", next.Version.Author.User,
		"summary", next.Version.Summary.String(), "generation", s.Generation, "patched", s.Patched, "took", s.Took)
	return nil
}

// Reload reads the file again and makes it what its source declares.
func (d *Desired) Reload(r desired.Request) (*desired.Result, error) {
	result, err := d.reload(r)
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
	return result, err
}

func (d *Desired) reload(r desired.Request) (*desired.Result, error) {
	doc, err := configs.ReadFile(d.path)
	if err != nil {
		if !r.DryRun {
			d.store.RefuseFile(err)
		}
		return nil, err
	}
	return d.store.Declare(declarationOf(desired.SourceFile, d.path, doc), r)
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
