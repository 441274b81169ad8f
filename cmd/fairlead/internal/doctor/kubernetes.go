package doctor

import (
	"context"
	"time"

	"fairlead/cmd/fairlead/internal/node"
	manifests "fairlead/configs/kubernetes"
	"fairlead/k8ssync/setup"
)

// kubernetesWithin is how long the API server may take to answer all questions.
const kubernetesWithin = 20 * time.Second

// kubernetes asks the API server whether the node can work with it: that it answers,
// that it grants what the shipped roles name, and that the kinds are there.
func (d *doctor) kubernetes() {
	if !d.cfg.Kubernetes.Enabled {
		return
	}
	settings := node.KubernetesSettings(&d.cfg.Kubernetes)
	if setup.Credentials(settings) != nil {
		return // preflight has said so
	}
	roles, err := manifests.FS.ReadFile("rbac.yaml")
	if err != nil {
		d.add(Finding{Status: Error, Check: "kubernetes", Subject: "permissions", Found: err.Error()})
		return
	}
	rules, err := setup.Rules(roles)
	if err != nil {
		d.add(Finding{Status: Error, Check: "kubernetes", Subject: "permissions", Found: err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), kubernetesWithin)
	defer cancel()
	for _, f := range setup.Examine(ctx, settings, rules) {
		d.add(Finding{Status: []Status{OK, Warning, Error}[f.Level], Check: "kubernetes", Subject: f.Subject, Found: f.Found, Advice: f.Advice, Command: f.Command})
	}
}
