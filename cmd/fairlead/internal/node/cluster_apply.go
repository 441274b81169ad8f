package node

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/apply"
	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/controlplane/compile"
	"fairlead/controlplane/desired"
	"fairlead/controlplane/model"
)

// sharedSources are the sources that are the same on all nodes of a cluster.
var sharedSources = []string{apply.SourceAPI, apply.SourceFile}

// openApply makes the room of what all nodes are to do the same.
func openApply(n *Node) (clusterRoom, error) {
	c := n.cluster
	local := &sharedState{node: n, last: map[string]*readContent{}}
	c.apply = apply.New(apply.Config{
		Members: c.Members, Peers: c.Peers, Store: c.Store, Local: local, Log: c.Log,
		HashSeed: fingerprint(n.cfg.State.HashSeed),
		File:     func() apply.Content { return n.desired.sharedFile },
		PublishFile: func(ctx context.Context, over cluster.Version) error {
			_, _, err := n.desired.Reload(ctx, desired.Request{Comment: "start"}, ChangeOptions{Publish: true, over: &over})
			return err
		},
	})
	done := make(chan struct{})
	var stop context.CancelFunc
	return clusterRoom{
		start: func(ctx context.Context) error {
			ctx, stop = context.WithCancel(ctx)
			go func() {
				defer close(done)
				if n.desired == nil {
					return
				}
				select {
				case <-n.desired.attached:
					c.apply.Run(ctx)
				case <-ctx.Done():
				}
			}()
			return nil
		},
		close: func() error {
			if stop != nil {
				stop()
				<-done
			}
			return nil
		},
	}, nil
}

// fingerprint stands for a hash seed among nodes, and does not tell it.
func fingerprint(seed [2]uint64) string {
	text := []byte("fairlead hash seed ")
	text = binary.BigEndian.AppendUint64(text, seed[0])
	text = binary.BigEndian.AppendUint64(text, seed[1])
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// sharedState implements apply.Local.
type sharedState struct {
	node *Node

	mu   sync.Mutex
	last map[string]*readContent // by source: a change is tried, adopted, and looked at
}

// readContent is a content that was read.
type readContent struct {
	text        string
	declaration *desired.Declaration // not to be changed
	unknown     []string
}

func (s *sharedState) store() *desired.Store { return s.node.desired.store }

// Shared implements apply.Local.
func (s *sharedState) Shared() map[string]apply.Content { return contentsOf(s.store().Current()) }

// contentsOf are the texts of the sources that are shared.
func contentsOf(d *desired.Desired) map[string]apply.Content {
	out := map[string]apply.Content{}
	if d == nil {
		return out
	}
	for _, source := range sharedSources {
		if decl := d.Declarations[source]; decl != nil && len(decl.Text) > 0 {
			out[source] = apply.Content{Name: decl.Name, Text: string(decl.Text)}
		}
	}
	return out
}

// Pending implements apply.Local.
func (s *sharedState) Pending() time.Time {
	if p := s.store().Status().Pending; p != nil {
		return p.Until
	}
	return time.Time{}
}

// read makes declarations of contents; one of nothing is nil.
func (s *sharedState) read(contents map[string]apply.Content) (map[string]*desired.Declaration, []string, error) {
	out := make(map[string]*desired.Declaration, len(contents))
	var unknown []string
	for source, c := range contents {
		out[source] = nil
		if c.Text == "" {
			continue
		}
		r, err := s.readOne(source, c)
		if err != nil {
			return nil, nil, err
		}
		own := *r.declaration // the store notes its digest in it
		out[source], unknown = &own, append(unknown, r.unknown...)
	}
	return out, unknown, nil
}

// readOne reads a content, unless it is the last one that was read of its source.
func (s *sharedState) readOne(source string, c apply.Content) (*readContent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.last[source]; r != nil && r.text == c.Text && r.declaration.Name == c.Name {
		return r, nil
	}
	doc, err := configs.ReadShared(nameOf(source, c), []byte(c.Text), true)
	if err != nil {
		return nil, err
	}
	r := &readContent{text: c.Text, declaration: declarationOf(source, c.Name, doc)}
	for _, one := range doc.Ignored {
		r.unknown = append(r.unknown, nameOf(source, c)+":"+one)
	}
	s.last[source] = r
	return r, nil
}

func nameOf(source string, c apply.Content) string {
	if c.Name == "" {
		return source
	}
	return c.Name
}

// Try implements apply.Local.
func (s *sharedState) Try(contents map[string]apply.Content) ([]string, error) {
	declarations, unknown, err := s.read(contents)
	if err != nil {
		return nil, err
	}
	_, err = s.store().Adopt(declarations, desired.Adoption{DryRun: true, Try: s.compile})
	return unknown, err
}

// compile compiles a state with what the node sees, and does nothing with it.
func (s *sharedState) compile(d *desired.Desired) error {
	result, err := compile.Compile(d.State, s.node.observed(), nil, compile.Options{})
	if err != nil {
		return err
	}
	if services, backends := len(result.Builder.Services), len(result.Builder.Backends); services > maxServices || backends > maxBackends {
		return fmt.Errorf("%d service and %d backend slots, %d and %d are possible", services, backends, maxServices, maxBackends)
	}
	return nil
}

// observed is what the node sees; nil before it has looked.
func (n *Node) observed() *model.Observations {
	if n.observer == nil {
		return nil
	}
	n.observer.mu.Lock()
	defer n.observer.mu.Unlock()
	return n.observer.latest
}

// Adopt implements apply.Local.
func (s *sharedState) Adopt(contents map[string]apply.Content, how apply.Adoption) error {
	declarations, _, err := s.read(contents)
	if err != nil {
		return err
	}
	author := desired.Author{Source: desired.AuthorOperator, User: how.User, Node: how.Origin}
	for _, source := range sharedSources {
		if _, is := contents[source]; is {
			author.Source = source
		}
	}
	_, err = s.store().Adopt(declarations, desired.Adoption{Author: author, Comment: how.Comment, Until: how.Until})
	return err
}

// Unknown implements apply.Local.
func (s *sharedState) Unknown(source string, c apply.Content) []string {
	_, unknown, err := s.read(map[string]apply.Content{source: c})
	if err != nil {
		return nil // then it is not in force
	}
	return unknown
}

// setting is what operators have set of a backend, as nodes share it.
type setting struct {
	State    model.AdminState `json:"state"`
	Deadline *time.Time       `json:"deadline,omitempty"`
	Weight   *int             `json:"weight,omitempty"`
}

// Settings implements apply.Local.
func (s *sharedState) Settings() map[string][]byte {
	out := map[string][]byte{}
	for _, one := range s.store().Settings() {
		v := setting{State: one.State, Weight: one.Weight}
		if !one.Deadline.IsZero() {
			deadline := one.Deadline.UTC()
			v.Deadline = &deadline
		}
		if text, err := json.Marshal(v); err == nil { // of these fields it has no reason to fail
			out[one.Pool+"/"+one.Endpoint.String()] = text
		}
	}
	return out
}

// AdoptSettings implements apply.Local.
func (s *sharedState) AdoptSettings(settings map[string][]byte) error {
	var list []model.BackendSetting
	for key, text := range settings {
		one, err := readSetting(key, text)
		if err != nil {
			s.node.log.Warn("a setting of a backend that is shared is not understood and left out", "backend", key, "error", err)
			continue
		}
		list = append(list, one)
	}
	_, err := s.store().AdoptSettings(list, desired.Author{Source: desired.AuthorOperator, User: "another node"})
	return err
}

func readSetting(key string, text []byte) (model.BackendSetting, error) {
	var v setting
	if err := json.Unmarshal(text, &v); err != nil {
		return model.BackendSetting{}, err
	}
	at := strings.LastIndexByte(key, '/')
	if at < 0 {
		return model.BackendSetting{}, errors.New("it names no pool")
	}
	end, err := netip.ParseAddrPort(key[at+1:])
	if err != nil {
		return model.BackendSetting{}, err
	}
	switch {
	case v.State != model.Enabled && v.State != model.Drained && v.State != model.Disabled:
		return model.BackendSetting{}, fmt.Errorf("the state %q is not known", v.State)
	case v.Weight != nil && (*v.Weight < 0 || *v.Weight > model.MaxWeight):
		return model.BackendSetting{}, fmt.Errorf("the weight %d is out of range", *v.Weight)
	}
	out := model.BackendSetting{BackendKey: model.BackendKey{Pool: key[:at], Endpoint: end}, State: v.State, Weight: v.Weight}
	if v.Deadline != nil {
		out.Deadline = *v.Deadline
	}
	return out, nil
}

// ChangeOptions say how a change is made where this node is one of several.
type ChangeOptions struct {
	RequireAll bool // on all nodes, or on none
	Publish    bool // of a reload: what the file declares of what is shared takes the place of what all have

	local bool             // it is found out on this node alone
	over  *cluster.Version // apply.Change.Over
}

// sharing is the part that makes changes on all nodes; nil: this one is alone.
func (d *Desired) sharing() *apply.Apply {
	if d.node == nil || d.node.cluster == nil {
		return nil
	}
	return d.node.cluster.apply
}

// change makes a change on all nodes, or on this one when it is alone. Of others
// it says what an operator should know.
func (d *Desired) change(ctx context.Context, r desired.Request, o ChangeOptions, do func(desired.Request) (*desired.Result, error)) (result *desired.Result, warnings []string, err error) {
	a := d.sharing()
	if a == nil || o.local {
		result, err = do(r)
		return result, nil, err
	}
	report, err := a.Change(ctx, apply.Change{
		User: r.User, Comment: r.Comment, DryRun: r.DryRun, RequireAll: o.RequireAll, Over: o.over,
		Plan: func() (wanted map[string]apply.Content, err error) {
			dry := r
			dry.DryRun = true
			dry.Try = func(next *desired.Desired) error {
				wanted = contentsOf(next)
				return oneOfSeveral(next)
			}
			result, err = do(dry)
			return wanted, err
		},
		Do: func() (err error) {
			result, err = do(r)
			return err
		},
		Undo: func() error { return d.undo(result) },
	})
	return result, report.Warnings(), err
}

// oneOfSeveral refuses what a node had before it became one of several.
func oneOfSeveral(next *desired.Desired) error {
	cfg, err := configOf(next)
	if err != nil {
		return err
	}
	if !cfg.Cluster.Enabled {
		return &desired.RequestError{Message: "the file of that version has no [cluster]: it is from before this node was one of several, and cannot be returned to while it is"}
	}
	return nil
}

// undo returns to what was before a change that cannot be shared.
func (d *Desired) undo(result *desired.Result) error {
	if result == nil || !result.Changed {
		return nil
	}
	_, err := d.store.Rollback(0, desired.Request{Force: true, Comment: "the change could not be shared"})
	return err
}

// set makes a change of operators' settings, on all nodes.
func (d *Desired) set(do func() error) error {
	if a := d.sharing(); a != nil {
		return a.Set(do)
	}
	return do()
}

// readSent reads what operators send.
func (d *Desired) readSent(name string, text []byte) (*desired.Declaration, error) {
	read := configs.ReadObjects
	if d.sharing() != nil {
		read = func(name string, text []byte) (*configs.Document, error) {
			return configs.ReadShared(name, text, false)
		}
	}
	doc, err := read(name, text)
	if err != nil {
		return nil, err
	}
	return declarationOf(desired.SourceAPI, name, doc), nil
}

// sharedPart is what a file declares of what all nodes have the same.
func sharedPart(path string, doc *configs.Document) (apply.Content, *desired.Declaration, error) {
	text, err := doc.Shared()
	if err != nil {
		return apply.Content{}, nil, err
	}
	if text == nil {
		text = []byte{}
	}
	part, err := configs.ReadShared(path, text, false)
	if err != nil {
		return apply.Content{}, nil, fmt.Errorf("what all nodes share of the file: %w", err)
	}
	return apply.Content{Name: path, Text: string(text)}, declarationOf(desired.SourceCluster, path, part), nil
}

// beginning is what the sources that are shared begin with. What the file declares
// of them is in force from the start where it was before this node was one of
// several, and where no other node is to be found. Otherwise this node waits for
// what the others have.
func (d *Desired) beginning(doc *configs.Document) (map[string]*desired.Declaration, error) {
	if !doc.Config.Cluster.Enabled {
		return map[string]*desired.Declaration{desired.SourceCluster: nil}, nil
	}
	content, declaration, err := sharedPart(d.path, doc)
	if err != nil {
		return nil, err
	}
	d.sharedFile = content
	now := d.store.Current()
	served := false
	if now != nil {
		if cfg, err := configOf(now); err == nil {
			served = !cfg.Cluster.Enabled
		}
		if api := now.Declarations[desired.SourceAPI]; api != nil && len(api.State.SNATs) > 0 {
			return nil, errors.New("what was sent to this node with `fairlead config apply` has SNAT addresses; in a cluster these belong to each node's own file: send it without them, and move them there, before [cluster] is configured")
		}
	}
	if content.Text == "" || !served && len(doc.Config.Cluster.Seeds) > 0 {
		return nil, nil
	}
	return map[string]*desired.Declaration{desired.SourceCluster: declaration}, nil
}

// clusterConditions are those of what all nodes share.
func (d *Desired) clusterConditions() (list []desired.Condition) {
	a := d.sharing()
	if a == nil {
		return nil
	}
	for _, c := range a.Status().Conditions {
		list = append(list, desired.Condition{Type: desired.ConditionType(c.Type), Since: c.Since, Message: c.Message})
	}
	return list
}

// declareFile finds out what a document would change in place of the node's file.
// On a node that is one of several it is what all would have.
func (d *Desired) declareFile(name string, doc *configs.Document, r desired.Request) (*desired.Result, error) {
	file := declarationOf(desired.SourceFile, name, doc)
	if !doc.Config.Cluster.Enabled {
		return d.store.Declare(file, r)
	}
	_, part, err := sharedPart(name, doc)
	if err != nil {
		return nil, err
	}
	return d.store.DeclareAll(r, file, part)
}

// answerOfCluster is how an error of other nodes is answered, nil where it is none.
func answerOfCluster(err error) error {
	var (
		refused    *apply.RefusedError
		conflict   *apply.ConflictError
		incomplete *apply.IncompleteError
		share      *apply.ShareError
		size       *apply.SizeError
	)
	switch {
	case errors.As(err, &refused):
		code := api.Invalid
		if refused.Conflict() {
			code = api.Conflict
		}
		return &api.Error{Code: code, Message: refused.Error()}
	case errors.As(err, &size):
		return &api.Error{Code: api.TooLarge, Message: size.Error()}
	case errors.As(err, &conflict):
		return &api.Error{Code: api.Conflict, Message: conflict.Error()}
	case errors.As(err, &incomplete), errors.As(err, &share), errors.Is(err, apply.ErrNotSynced):
		return &api.Error{Code: api.Unavailable, Message: err.Error()}
	}
	return nil
}
