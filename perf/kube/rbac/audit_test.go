package rbac

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"fairlead/k8ssync/setup"
)

// policy has the API server record what the service account asks for.
const policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  users: [\"" + account + "\"]\n"

// request is what the audit log has of one.
type request struct {
	Verb      string `json:"verb"`
	ObjectRef struct {
		Resource, Namespace, Name, APIGroup, Subresource string
	} `json:"objectRef"`
	ResponseStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"responseStatus"`
}

func (r *request) String() string {
	o := &r.ObjectRef
	return fmt.Sprintf("%s %s.%s/%s %s", r.Verb, o.Resource, o.APIGroup, o.Subresource, o.Name)
}

// needs reports whether the request needs a rule.
func (r *request) needs(rule setup.Rule) bool {
	o := &r.ObjectRef
	return r.Verb == rule.Verb && o.APIGroup == rule.Group && o.Resource == rule.Resource && o.Subresource == rule.Subresource && (rule.Name == "" || rule.Name == o.Name)
}

// asked are all requests of the service account so far.
func (w *world) asked() (out []request) {
	w.t.Helper()
	f, err := os.Open(w.control.AuditLog())
	w.must(err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if json.Unmarshal(lines.Bytes(), &r) == nil { // the last line may not be complete
			out = append(out, r)
		}
	}
	w.must(lines.Err())
	return out
}

// unused are the rules that no request needs.
func unused(rules []setup.Rule, requests []request) []setup.Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(rule setup.Rule) bool {
		return slices.ContainsFunc(requests, func(r request) bool { return r.needs(rule) })
	})
}

// refused demands that no request was.
func (w *world) refused(requests []request) {
	w.t.Helper()
	told := map[string]bool{}
	for _, r := range requests {
		if text := r.String(); r.ResponseStatus.Code == 403 && !told[text] {
			told[text] = true
			w.t.Errorf("was refused: %s: %s", text, r.ResponseStatus.Message)
		}
	}
}
