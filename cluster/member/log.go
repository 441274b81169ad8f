package member

import (
	"context"
	"log/slog"
	"strings"
)

// logWriter takes memberlist's lines, "[LEVEL] memberlist: text", into the log. Its
// levels are those of a library that does not know what its user takes for usual:
// what happens whenever a node dies is no error of this one.
type logWriter struct {
	log *slog.Logger
	m   *Members // nil: that of the transport
}

// ofLibrary are lines that are told otherwise than memberlist does. The first one
// that a line contains counts.
var ofLibrary = []struct {
	part, text string
	level      slog.Level
}{
	{"Decrypt packet failed", "gossip with an unknown key, or none", slog.LevelWarn},
	{"failed to receive:", "a stream of gossip is refused", slog.LevelWarn},
	{"failed to receive and remove the stream label", "a stream of gossip is refused", slog.LevelWarn},
	{"discarding", "gossip of something else", slog.LevelWarn},
	{"Refuting an alive message", "", slog.LevelDebug}, // after each restart
	{"Refuting a", "others took this node for dead: it, or its network, is slow", slog.LevelWarn},
	{"but UDP probes failed", "a member answers over TCP and not over UDP", slog.LevelWarn},
	{"Conflicting address", "", slog.LevelDebug},          // NotifyConflict
	{"ignoring alive message", "", slog.LevelDebug},       // NotifyAlive
	{"Ignoring an alive message", "", slog.LevelDebug},    // the same
	{"Failed fallback TCP ping", "", slog.LevelDebug},     // whenever a node dies
	{"Failed to send", "", slog.LevelDebug},               // the same
	{"failed to join", "", slog.LevelDebug},               // rejoin says it
	{"Push/Pull with", "", slog.LevelDebug},               // whenever a node dies
	{"Got ping for unexpected node", "", slog.LevelDebug}, // an address has a new owner
	{"Too many pending push/pull", "too many exchanges of membership at a time", slog.LevelWarn},
	{"handler queue full", "more gossip than this node can take", slog.LevelWarn},
}

func (w *logWriter) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	level := slog.LevelDebug
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if word, after, ok := strings.Cut(rest, "] "); ok {
			switch word {
			case "ERR", "ERROR", "WARN":
				level = slog.LevelWarn
			}
			text = after
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	if w.m != nil {
		w.m.noticed(text)
	}
	message := "gossip"
	for _, l := range ofLibrary {
		if strings.Contains(text, l.part) {
			level = l.level
			if l.text != "" {
				message = l.text
			}
			break
		}
	}
	w.log.Log(context.Background(), level, message, "detail", text)
	return len(line), nil
}

// noticed takes from memberlist's lines what it tells in no other way.
func (m *Members) noticed(text string) {
	if rest, ok := strings.CutPrefix(text, "Suspect "); ok {
		if name, _, ok := strings.Cut(rest, " has failed"); ok {
			m.probeFailed(name)
		}
	}
	if strings.HasPrefix(text, "Decrypt packet failed") || strings.HasPrefix(text, "failed to receive:") {
		m.count.undecipherable.Add(1)
	}
	if strings.HasPrefix(text, "Refuting a suspect") || strings.HasPrefix(text, "Refuting a dead") {
		m.count.refuted.Add(1)
	}
}
