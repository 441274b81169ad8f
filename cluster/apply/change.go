package apply

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"maps"

	"fairlead/cluster"
)

// Change is what an operator wants of this node.
type Change struct {
	User       string
	Comment    string
	DryRun     bool // it is only found out what would come of it, on all nodes
	RequireAll bool // it is made on all nodes that have not left, or on none
	// Over is what of files all share when the change is made, or it is not made;
	// nil: whatever it is.
	Over *cluster.Version
	// Plan finds out what would be in force of the sources that are shared, and
	// changes nothing. A source that is missing declares nothing.
	Plan func() (map[string]Content, error)
	// Do makes the change on this node.
	Do func() error
	// Undo returns to what was in force before Do; nil: what is shared is adopted
	// again.
	Undo func() error
}

// Change makes a change on all nodes. The report is there as soon as others were
// asked, also with an error.
func (a *Apply) Change(ctx context.Context, c Change) (*Report, error) {
	select {
	case a.changing <- struct{}{}:
	case <-ctx.Done():
		return nil, &ConflictError{"another change is being made on this node; try again when it is done"}
	}
	defer func() { <-a.changing }()
	wanted, err := c.Plan()
	if err != nil {
		return nil, err
	}
	base, others := a.differing(wanted)
	if c.Over != nil && base[SourceFile] != *c.Over {
		return nil, &ConflictError{"what all nodes share of files was changed meanwhile"}
	}
	var report *Report
	if len(others) > 0 {
		if !a.isReady() {
			return nil, ErrNotSynced
		}
		if err := a.fits(others); err != nil {
			return nil, err
		}
		q := &request{Format: formatNumber, ID: rand.Text(), User: c.User, Within: prepareWithin, Contents: others, Base: base}
		a.making.set(q.ID)
		defer a.free(q.ID)
		if report, err = a.ask(ctx, q); err != nil {
			return report, err
		}
		if c.RequireAll && len(report.Missing) > 0 {
			return report, &IncompleteError{report.Missing}
		}
	}
	if c.DryRun {
		return report, nil
	}
	return report, a.commit(&c, others, base)
}

// fits finds out whether contents are small enough to be shared, together with
// those that they may have to give way to.
func (a *Apply) fits(contents map[string]Content) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for source, c := range contents {
		was, _ := a.known(source)
		d := a.document(source, c, "", "", was)
		if was.doc != nil {
			restore := was.doc.Effective(a.now())
			d.Restore = &restore
		}
		if _, err := d.encode(); err != nil {
			return &SizeError{err}
		}
	}
	return nil
}

func (a *Apply) isReady() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready
}

// differing are the contents that are not what is shared, and the versions that
// they take the place of.
func (a *Apply) differing(wanted map[string]Content) (base map[string]cluster.Version, others map[string]Content) {
	base, others = map[string]cluster.Version{}, map[string]Content{}
	now := a.now()
	for _, s := range sources {
		e, there := a.cfg.Store.Get(s.key)
		want := wanted[s.name]
		if !there {
			if want.Text != "" {
				others[s.name] = want
			}
			continue
		}
		base[s.name] = e.Version
		d, err := decode(e.Value)
		if err != nil || d.Effective(now).Text != want.Text {
			others[s.name] = want
		}
	}
	return base, others
}

// commit makes a change that nobody refuses: on this node, and then for all.
func (a *Apply) commit(c *Change, others map[string]Content, base map[string]cluster.Version) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.look()
	for source := range others {
		if e, there := a.cfg.Store.Get(keyOf(source)); there && e.Version != base[source] {
			return conflictWith(e)
		}
	}
	settings := a.cfg.Local.Settings()
	if err := c.Do(); err != nil {
		return err
	}
	err := a.publish(c, others)
	if err == nil {
		err = a.publishSettings(settings, a.cfg.Local.Settings())
	}
	if err == nil {
		return nil
	}
	undo := c.Undo
	if undo == nil {
		undo = func() error { return nil }
	}
	if failed := undo(); failed != nil {
		a.log.Error("a change that cannot be shared cannot be undone; what is shared is taken over again", "error", failed)
	}
	return &ShareError{err}
}

// publish writes what is in force here to what all share.
func (a *Apply) publish(c *Change, others map[string]Content) error {
	now := a.now()
	pending, in := a.cfg.Local.Pending(), a.cfg.Local.Shared()
	for _, s := range sources {
		was, known := a.known(s.name)
		_, changed := others[s.name]
		settled := known && was.doc != nil && !was.doc.pending(now).IsZero() && pending.IsZero()
		if !changed && !settled {
			continue
		}
		d := a.document(s.name, in[s.name], c.User, c.Comment, was)
		if changed && !pending.IsZero() {
			until := pending.UTC()
			d.Until = &until
			if was.doc != nil {
				restore := was.doc.Effective(now)
				d.Restore = &restore
			}
		}
		if err := a.put(s.name, d); err != nil {
			return err
		}
	}
	return nil
}

// document is a change of a source made on this node in knowledge of was.
func (a *Apply) document(source string, content Content, user, comment string, was version) *Document {
	d := &Document{Format: formatNumber, Content: content, Origin: a.self, User: user, Comment: comment, Time: a.now().UTC().Round(0)}
	if was.entry.Key != "" {
		d.Ancestors = append(d.Ancestors, was.entry.Version)
	}
	if was.doc != nil {
		d.Ancestors = append(d.Ancestors, was.doc.Ancestors...)
	}
	d.Ancestors = d.Ancestors[:min(len(d.Ancestors), keptAncestors)]
	return d
}

// put writes a document, which is this node's from then on.
func (a *Apply) put(source string, d *Document) error {
	value, err := d.encode()
	if err != nil {
		return err
	}
	if err := a.cfg.Store.Put(keyOf(source), value); err != nil {
		return err
	}
	if e, there := a.cfg.Store.Get(keyOf(source)); there && bytes.Equal(e.Value, value) {
		a.seen[source] = version{entry: e, doc: d}
		a.status.clear(replacedBy(source))
	}
	return nil
}

// known is the entry of a source as it is now.
func (a *Apply) known(source string) (version, bool) {
	e, there := a.cfg.Store.Get(keyOf(source))
	if !there {
		return version{}, false
	}
	if v, ok := a.seen[source]; ok && v.entry.Version == e.Version {
		return v, true
	}
	d, err := decode(e.Value)
	return version{entry: e, doc: d, err: err}, true
}

// publishSettings writes what has become another of operators' settings.
func (a *Apply) publishSettings(before, after map[string][]byte) error {
	var errs []error
	for key, value := range after {
		if !bytes.Equal(before[key], value) {
			errs = append(errs, a.cfg.Store.Put(cluster.SettingPrefix+key, value))
		}
	}
	for key := range before {
		if _, stays := after[key]; !stays {
			errs = append(errs, a.cfg.Store.Delete(cluster.SettingPrefix+key))
		}
	}
	return errors.Join(errs...)
}

// Set makes a change of operators' settings, which needs nobody's consent.
func (a *Apply) Set(do func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.look()
	before := maps.Clone(a.cfg.Local.Settings())
	if err := do(); err != nil {
		return err
	}
	err := a.publishSettings(before, a.cfg.Local.Settings())
	if err == nil {
		return nil
	}
	if failed := a.cfg.Local.AdoptSettings(before); failed != nil {
		a.log.Error("a setting that cannot be shared cannot be undone; what is shared is taken over again", "error", failed)
	}
	return &ShareError{err}
}

// Confirm lets changes stay that wait for it, on all nodes. do confirms on this
// one.
func (a *Apply) Confirm(user string, do func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.look()
	now := a.now()
	for _, s := range sources {
		was, known := a.known(s.name)
		if !known || was.doc == nil || was.doc.pending(now).IsZero() {
			continue
		}
		d := a.document(s.name, was.doc.Content, was.doc.User, was.doc.Comment, was)
		d.Time = was.doc.Time
		if err := a.put(s.name, d); err != nil {
			return &ShareError{err}
		}
		a.log.Info("a change stays", "source", s.name, "user", user)
	}
	return do()
}
