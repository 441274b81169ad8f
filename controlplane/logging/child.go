package logging

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strings"
)

// environment is the variable in which a process tells another one that it
// starts how it writes its log.
const environment = "FAIRLEAD_LOG"

// handed is what it says.
type handed struct {
	JSON        bool       `json:"json"`
	Level       slog.Level `json:"level"`
	Rate, Burst int
}

// Environment is what a process that is started needs in its environment for its
// log to be like this one: in the same form, at the present level, within the
// same limits. It has its own limits, and outlives this process.
func Environment(log *slog.Logger) []string {
	h, ok := log.Handler().(*handler)
	if !ok {
		return nil
	}
	said, err := json.Marshal(handed{h.logs.json, h.logs.Level().Configured, h.logs.rate, h.logs.burst})
	if err != nil {
		return nil
	}
	return []string{environment + "=" + string(said)}
}

// Without is an environment without what Environment has added.
func Without(all []string) []string {
	var kept []string
	for _, v := range all {
		if !strings.HasPrefix(v, environment+"=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// Inherit opens the log of a process that was started so. Without a word of it
// in the environment it is text, at level info, without limits.
func Inherit(out io.Writer) *Logs {
	var h handed
	if err := json.Unmarshal([]byte(os.Getenv(environment)), &h); err != nil {
		h = handed{}
	}
	return New(Config{Out: out, JSON: h.JSON, Level: h.Level, Rate: max(h.Rate, 0), Burst: max(h.Burst, 0)})
}
