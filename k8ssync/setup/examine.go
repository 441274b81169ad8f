package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/watch"
)

// Level says how bad a finding is.
type Level int

// The levels.
const (
	OK Level = iota
	Warning
	Error
)

// Finding is one thing that was looked at.
type Finding struct {
	Level   Level
	Subject string // what it is about: "API server", "permissions", ...
	Found   string
	Advice  string // what to do
	Command string // that does it, where one does
}

// The groups and kinds of others that are looked for.
const (
	poolsVersion   = kube.Domain + "/v1alpha1"
	gatewayGroup   = "gateway.networking.k8s.io"
	gatewayVersion = gatewayGroup + "/v1"
)

// Examine asks the API server that settings name, with the node's own credentials,
// whether a node can work: that it answers, that it grants rules, and that the kinds
// are there. It changes nothing.
func Examine(ctx context.Context, s kube.Settings, rules []Rule) []Finding {
	connection, err := watch.Connect(watch.Config{Settings: s, UserAgent: "fairlead-doctor"})
	if err != nil {
		return []Finding{{Error, "credentials", err.Error(), "correct [kubernetes]; outside of the cluster it needs a kubeconfig", "fairlead k8s kubeconfig"}}
	}
	defer connection.Close()
	config := connection.REST()
	config.QPS = -1 // a question for each rule
	client, err := kubernetes.NewForConfigAndClient(config, connection.HTTP())
	if err != nil {
		return []Finding{{Error, "credentials", err.Error(), "correct [kubernetes]", ""}}
	}
	e := &examiner{settings: s, client: client, server: connection.Server()}
	if e.reach(ctx) {
		e.permissions(ctx, rules)
		e.kinds(config, connection)
	}
	return e.found
}

type examiner struct {
	settings kube.Settings
	client   kubernetes.Interface
	server   string
	found    []Finding
}

func (e *examiner) add(level Level, subject, found, advice, command string) {
	e.found = append(e.found, Finding{level, subject, found, advice, command})
}

// reach asks for the version, which everybody may know who is somebody.
func (e *examiner) reach(ctx context.Context) bool {
	body, err := e.client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	switch {
	case apierrors.IsUnauthorized(err):
		e.add(Error, "API server", e.server+" does not know the node: "+err.Error(), "give the node another token or certificate", "fairlead k8s kubeconfig")
		return false
	case err != nil:
		e.add(Error, "API server", e.server+" does not answer: "+err.Error(), "see that this machine has a way to it, and that the address is right", "")
		return false
	}
	version := ""
	if _, rest, found := strings.Cut(string(body), `"gitVersion": "`); found {
		version, _, _ = strings.Cut(rest, `"`)
	}
	e.add(OK, "API server", e.server+" answers, Kubernetes "+version, "", "")
	return true
}

// permissions asks whether each rule is granted.
func (e *examiner) permissions(ctx context.Context, rules []Rule) {
	var missing, optional []string
	asked := 0
	for _, r := range rules {
		gateway := r.Group == gatewayGroup || r.Resource == "customresourcedefinitions"
		if gateway && !e.settings.Gateway || r.Resource == "pods" && !e.settings.PodWeights {
			continue
		}
		attributes := &authorizationv1.ResourceAttributes{Verb: r.Verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource, Name: r.Name}
		if r.Namespaced {
			attributes.Namespace = e.settings.LeaseNamespace
		}
		review, err := e.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}, metav1.CreateOptions{})
		if err != nil {
			e.add(Error, "permissions", "they cannot be asked for: "+err.Error(), "see what the API server logs", "")
			return
		}
		asked++
		switch {
		case review.Status.Allowed:
		case gateway:
			optional = append(optional, r.String())
		default:
			missing = append(missing, r.String())
		}
	}
	const advice, command = "apply the roles of this release", "fairlead k8s manifests --outside"
	if len(missing) > 0 {
		e.add(Error, "permissions", "the node may not "+strings.Join(missing, ", "), advice, command)
	}
	if len(optional) > 0 {
		e.add(Warning, "permissions", "for the Gateway API the node may not "+strings.Join(optional, ", "), advice+", or set gateway = false", command)
	}
	if len(missing)+len(optional) == 0 {
		e.add(OK, "permissions", fmt.Sprintf("all %d are granted", asked), "", "")
	}
}

// kinds looks whether our kinds are there, and those of the Gateway API.
func (e *examiner) kinds(config *rest.Config, connection *watch.Connection) {
	client, err := discovery.NewDiscoveryClientForConfigAndClient(config, connection.HTTP())
	if err != nil {
		e.add(Error, "kinds", err.Error(), "", "")
		return
	}
	ask := func(version string, wanted ...string) (missing []string, err error) {
		list, err := client.ServerResourcesForGroupVersion(version)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		for _, name := range wanted {
			if list == nil || !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == name }) {
				missing = append(missing, name)
			}
		}
		return missing, nil
	}
	missing, err := ask(poolsVersion, "addresspools", "addresspools/status", "addressreservations")
	gateways, gatewayErr := []string(nil), error(nil)
	if e.settings.Gateway {
		gateways, gatewayErr = ask(gatewayVersion, "gatewayclasses", "gateways", "tcproutes", "udproutes", "referencegrants")
	}
	if err := errors.Join(err, gatewayErr); err != nil {
		e.add(Error, "kinds", "they cannot be asked for: "+err.Error(), "see what the API server logs", "")
		return
	}
	if len(missing) > 0 {
		e.add(Error, "kinds", "the API server has no "+strings.Join(missing, ", ")+" of "+poolsVersion, "apply the CRDs of this release", "fairlead k8s crds | kubectl apply --server-side -f -")
	} else {
		e.add(OK, "kinds", "those of "+poolsVersion+" are there", "", "")
	}
	if len(gateways) > 0 {
		e.add(Warning, "kinds", "the API server has no "+strings.Join(gateways, ", ")+" of "+gatewayVersion+", so they are not served", "install the Gateway API, release 1.6 or later, or set gateway = false", "")
	} else if e.settings.Gateway {
		e.add(OK, "kinds", "those of "+gatewayVersion+" are there", "", "")
	}
}
