package apply

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fairlead/cluster"
)

// idle is how long a round waits when nothing is due.
const idle = 30 * time.Second

// notConfirmed is the comment of what holds again after a change.
const notConfirmed = "the change was not confirmed in time"

// round brings this node to what all share, and says when it is to look again
// though nobody tells it to.
func (a *Apply) round(ctx context.Context) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return idle
	}
	if !a.ready {
		a.begin(ctx)
	}
	if !a.ready {
		return a.due()
	}
	for _, s := range sources {
		a.notice(s.name)
	}
	a.adopt()
	a.adoptSettings()
	a.rememberEntry()
	a.report()
	return a.due()
}

// begin decides what becomes of what this node has of its own, now that it knows
// what the others have.
func (a *Apply) begin(ctx context.Context) {
	a.ready, a.began = true, a.now()
	a.memory = a.loadMemory()
	if len(a.cfg.Store.List(cluster.DesiredPrefix)) == 0 {
		a.initiate()
		a.remember(a.file)
		return
	}
	shared, known := a.known(SourceFile)
	same := known && shared.doc != nil && shared.doc.Effective(a.now()).Text == a.file.Text
	edited := a.memory.Digest != "" && a.memory.Digest != a.file.Digest() && a.file.Text != ""
	switch {
	case same:
		a.remember(a.file)
	case edited && known && a.memory.Entry == shared.entry.Version && a.cfg.PublishFile != nil:
		// Nobody else has changed it since this node was stopped.
		a.running.Go(func() {
			if err := a.cfg.PublishFile(ctx, shared.entry.Version); err != nil {
				a.log.Error("the file has changed while the node was stopped, and what it declares cannot be shared", "error", err)
			}
		})
	case a.memory.Digest == "":
		a.remember(a.file)
	}
}

// initiate shares what this node has, as nobody has anything.
func (a *Apply) initiate() {
	contents := a.cfg.Local.Shared()
	if contents[SourceFile].Text == "" && a.file.Text != "" {
		contents = maps.Clone(contents)
		if contents == nil {
			contents = map[string]Content{}
		}
		contents[SourceFile] = a.file
	}
	for _, s := range sources {
		c := contents[s.name]
		if c.Text == "" {
			continue
		}
		d := a.document(s.name, c, "", "start", version{})
		d.Initial = true
		if err := a.put(s.name, d); err != nil {
			a.log.Error("what this node declares cannot be shared", "source", s.name, "error", err)
			a.ready = false
			a.retry.failed(a.now())
			return
		}
		a.log.Info("this node shares what it declares", "source", s.name)
	}
	for key, value := range a.cfg.Local.Settings() {
		if err := a.cfg.Store.Put(cluster.SettingPrefix+key, value); err != nil {
			a.log.Error("a setting of a backend cannot be shared", "backend", key, "error", err)
		}
	}
}

// notice looks at the entry of a source, and whether it has replaced another
// without knowledge of it.
func (a *Apply) notice(source string) {
	v, known := a.known(source)
	if !known {
		return
	}
	before, had := a.seen[source]
	if had && before.entry.Version == v.entry.Version {
		return
	}
	a.seen[source] = v
	if v.err != nil {
		a.log.Error("what is shared cannot be read", "source", source, "writer", v.entry.Writer, "error", v.err)
		return
	}
	if !had || before.doc == nil || v.doc.knows(before.entry.Version) || before.doc.Text == v.doc.Text {
		delete(a.reclaim, source)
		a.status.clear(replacedBy(source))
		return
	}
	if v.doc.Initial && !before.doc.Initial {
		a.lost[source] = before
		a.reclaim[source] = a.now().Add(time.Duration(a.rank()) * reclaimAfter)
		return
	}
	message := fmt.Sprintf("%s was replaced by %s, which was made without knowledge of it", describe(before), describe(v))
	a.log.Warn("a change was replaced: "+message, "source", source)
	a.status.set(replacedBy(source), message+"; `fairlead config history` has both")
}

// describe is a change in words.
func describe(v version) string {
	what := map[string]string{SourceAPI: "what was sent", SourceFile: "what the file declares"}
	source := SourceAPI
	if v.entry.Key == keyOf(SourceFile) {
		source = SourceFile
	}
	return fmt.Sprintf("the change of %s by %s on node %q at %s", what[source], person(v.doc.User), v.doc.Origin, v.doc.Time.UTC().Format(time.RFC3339))
}

// rank is how many nodes that serve come before this one by name.
func (a *Apply) rank() (n int) {
	for _, o := range a.cfg.Members.All() {
		if o.Name < a.self && o.State.Serves() {
			n++
		}
	}
	return n
}

// adopt puts in force here what is shared and differs.
func (a *Apply) adopt() {
	now := a.now()
	a.takeBack(now)
	if now.Before(a.retry.next) {
		return
	}
	in := a.cfg.Local.Shared()
	contents := map[string]Content{}
	how := Adoption{Comment: "nothing of it is shared"}
	var latest time.Time
	var unread error
	waits := false
	for _, s := range sources {
		v, known := a.known(s.name)
		if v.err != nil {
			unread = fmt.Errorf("what node %q has shared as %q cannot be read: %w", v.entry.Writer, s.key, v.err)
			continue
		}
		want := Content{}
		if known {
			want = v.doc.Effective(now)
			waits = waits || !v.doc.pending(now).IsZero()
			if v.doc.expired(now) && now.Sub(*v.doc.Until) < undoneGrace {
				continue // this node undoes it by itself
			}
		}
		if in[s.name].Text == want.Text {
			continue
		}
		if !known && now.Sub(a.began) < strangerGrace {
			continue // what others have of it may be on its way
		}
		contents[s.name] = want
		if known && v.doc.Time.After(latest) {
			latest = v.doc.Time
			how = Adoption{Origin: v.doc.Origin, User: v.doc.User, Comment: v.doc.Comment, Until: v.doc.pending(now)}
			if v.doc.expired(now) {
				how.Comment = notConfirmed
			}
		}
	}
	settle := len(contents) == 0 && !waits && unread == nil && !a.cfg.Local.Pending().IsZero() && !a.undoing(now)
	err := unread
	if len(contents) > 0 || settle {
		if failed := a.cfg.Local.Adopt(contents, how); failed != nil {
			err = failed
		}
	}
	a.judge(err, contents)
}

// undoing reports whether a change is so recently due to be undone that this node
// does it by itself.
func (a *Apply) undoing(now time.Time) bool {
	for _, v := range a.seen {
		if v.doc != nil && v.doc.expired(now) && now.Sub(*v.doc.Until) < undoneGrace {
			return true
		}
	}
	return false
}

// learn notes which keys of what is in force this software does not know.
func (a *Apply) learn() (all []string) {
	in := a.cfg.Local.Shared()
	for _, s := range sources {
		if c := in[s.name]; c.Text != a.unknown[s.name].text {
			keys := a.cfg.Local.Unknown(s.name, c)
			a.unknown[s.name] = ignored{c.Text, keys}
			if len(keys) > 0 {
				a.log.Warn("newer software has declared what this node does not know and ignores", "source", s.name, "keys", strings.Join(keys, "; "))
			}
		}
		all = append(all, a.unknown[s.name].keys...)
	}
	return all
}

// judge notes whether what is shared is in force here.
func (a *Apply) judge(err error, contents map[string]Content) {
	if err == nil {
		if a.refused != "" {
			a.log.Info("what is shared is in force here again")
		}
		a.refused = ""
		a.retry.clear()
		return
	}
	if a.refused != err.Error() {
		a.refused = err.Error()
		a.log.Error("what is shared cannot be put in force here; it is tried again, and the other nodes go on with it",
			"sources", strings.Join(slices.Sorted(maps.Keys(contents)), ", "), "error", err)
	}
	a.retry.failed(a.now())
}

// takeBack shares again what somebody has asked for, where what a node began with
// has replaced it.
func (a *Apply) takeBack(now time.Time) {
	for source, at := range a.reclaim {
		v, known := a.known(source)
		if !known || v.doc == nil || !v.doc.Initial {
			delete(a.reclaim, source)
			continue
		}
		if now.Before(at) {
			continue
		}
		delete(a.reclaim, source)
		lost := a.lost[source]
		d := a.document(source, lost.doc.Effective(now), lost.doc.User, lost.doc.Comment, v)
		d.Origin, d.Time = lost.doc.Origin, lost.doc.Time
		if err := a.put(source, d); err != nil {
			a.log.Error("what a node began with has replaced what was asked for, and cannot be taken back", "source", source, "error", err)
			continue
		}
		a.log.Warn("what a node began with gives way to what was asked for before", "source", source, "node", v.entry.Writer)
	}
}

// adoptSettings makes operators' settings those that are shared.
func (a *Apply) adoptSettings() {
	want := map[string][]byte{}
	for _, e := range a.cfg.Store.List(cluster.SettingPrefix) {
		want[strings.TrimPrefix(e.Key, cluster.SettingPrefix)] = e.Value
	}
	if maps.EqualFunc(want, a.cfg.Local.Settings(), bytes.Equal) {
		a.unset = ""
		return
	}
	if err := a.cfg.Local.AdoptSettings(want); err != nil {
		if a.unset != err.Error() {
			a.log.Error("settings of backends that are shared cannot be put in force here; it is tried again", "error", err)
		}
		a.unset = err.Error()
		return
	}
	a.unset = ""
}

// due is when the next round is, at the latest.
func (a *Apply) due() time.Duration {
	now := a.now()
	wait := idle
	sooner := func(t time.Time) {
		if d := t.Sub(now); d < wait {
			wait = max(d, 10*time.Millisecond)
		}
	}
	if !a.retry.next.IsZero() {
		sooner(a.retry.next)
	}
	for _, at := range a.reclaim {
		sooner(at)
	}
	for _, v := range a.seen {
		if v.doc == nil || v.doc.Until == nil {
			continue
		}
		if at := v.doc.Until.Add(undoneGrace); at.After(now) {
			sooner(at)
		}
	}
	if a.unset != "" {
		sooner(now.Add(retryLeast))
	}
	if end := a.began.Add(strangerGrace); end.After(now) {
		sooner(end)
	}
	return wait
}
