package writer

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
)

// The conditions of a Service that are written here. Kubernetes gives Services no
// generation, so their observedGeneration is what the API server says: 0.
const (
	// ConditionAddress is True when the Service has what it asks for; its message
	// tells why it has not.
	ConditionAddress = kube.Domain + "/AddressAssigned"
	// ConditionProgrammed is True when all nodes of Fairlead serve it; its message
	// says on how many it is in force, and why not on the others.
	ConditionProgrammed = kube.Domain + "/Programmed"
	// ConditionProblems is True when something that the Service says is wrong and
	// something else is done. It is only there then.
	ConditionProblems = kube.Domain + "/Problems"
	// ConditionPorts is True when ports are not served (Kubernetes' own type). It
	// is only there then.
	ConditionPorts = corev1.LoadBalancerPortsError
)

// Reasons of the conditions, beyond those of problems.
const (
	ReasonAssigned    = "Assigned"
	ReasonNotAssigned = "NotAssigned"
	ReasonHeld        = "Held" // it keeps what it has, though it asks for something else
	ReasonProgrammed  = "Programmed"
	ReasonPending     = "Pending"          // nodes are about to
	ReasonPartly      = "PartlyProgrammed" // in force on some nodes
	ReasonNowhere     = "NotProgrammed"    // in force on none
	ReasonProblems    = "Problems"
	ReasonReleased    = "Released"
)

// maxMessage keeps a condition readable; Kubernetes would take 32 KiB.
const maxMessage = 1000

func isOurs(conditionType string) bool {
	return strings.HasPrefix(conditionType, kube.Domain+"/")
}

// hasConditions reports whether conditions of ours are on a Service: it was ours
// when they were written.
func hasConditions(svc *corev1.Service) bool {
	return slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool { return isOurs(c.Type) })
}

// condition makes one.
func condition(svc *corev1.Service, what string, is bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: what, Status: metav1.ConditionFalse, Reason: reason, Message: clip(message), ObservedGeneration: svc.Generation}
	if is {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func clip(s string) string {
	if len(s) > maxMessage {
		return strings.ToValidUTF8(s[:maxMessage-len("...")], "") + "..."
	}
	return s
}

// addressCondition says whether a Service has what it asks for.
func addressCondition(svc *corev1.Service, a *Assignment) metav1.Condition {
	reason, message := "", ""
	for _, p := range a.Problems {
		if p.Severity == kube.Warning {
			reason, message = p.Reason, p.Message
			break
		}
	}
	texts := make([]string, len(a.Addresses))
	for i, addr := range a.Addresses {
		texts[i] = addr.String()
	}
	has := strings.Join(texts, ", ")
	switch {
	case len(a.Addresses) == 0 && reason == "":
		return condition(svc, ConditionAddress, false, ReasonNotAssigned, "There is no address for it")
	case len(a.Addresses) == 0:
		return condition(svc, ConditionAddress, false, reason, message)
	case reason != "":
		return condition(svc, ConditionAddress, true, ReasonHeld, has+". "+message)
	}
	return condition(svc, ConditionAddress, true, ReasonAssigned, has)
}

// problemsCondition is what is wrong with what a Service says; false: nothing.
func problemsCondition(svc *corev1.Service, problems []kube.Problem) (metav1.Condition, bool) {
	var texts []string
	reason := ""
	for _, p := range problems {
		if p.Severity != kube.Warning {
			continue
		}
		if reason == "" {
			reason = p.Reason
		}
		texts = append(texts, p.Message)
	}
	switch len(texts) {
	case 0:
		return metav1.Condition{}, false
	case 1:
	default:
		reason = ReasonProblems
	}
	return condition(svc, ConditionProblems, true, reason, strings.Join(texts, "; ")), true
}

// portsCondition is what Kubernetes has for ports that are not served; false: all
// are.
func portsCondition(svc *corev1.Service, ports []PortError) (metav1.Condition, bool) {
	if len(ports) == 0 {
		return metav1.Condition{}, false
	}
	texts := make([]string, len(ports))
	for i := range ports {
		texts[i] = ports[i].Message
	}
	reason := ports[0].Reason
	if at := strings.LastIndexByte(reason, '/'); at >= 0 {
		reason = reason[at+1:] // a condition's reason has no domain
	}
	return condition(svc, ConditionPorts, true, reason, strings.Join(texts, "; ")), true
}

// changed are the conditions of want that are not on the Service as they should
// be, and the types of those of ours that should not be there. The time of a
// condition whose status stays is kept.
func changed(svc *corev1.Service, want []metav1.Condition) (set []metav1.Condition, remove []string) {
	for _, w := range want {
		at := slices.IndexFunc(svc.Status.Conditions, func(c metav1.Condition) bool { return c.Type == w.Type })
		if at < 0 {
			w.LastTransitionTime = metav1.Now()
			set = append(set, w)
			continue
		}
		is := svc.Status.Conditions[at]
		w.LastTransitionTime = is.LastTransitionTime
		if is.Status != w.Status {
			w.LastTransitionTime = metav1.Now()
		}
		if is != w {
			set = append(set, w)
		}
	}
	for _, is := range svc.Status.Conditions {
		if !isOurs(is.Type) && is.Type != ConditionPorts {
			continue
		}
		if !slices.ContainsFunc(want, func(c metav1.Condition) bool { return c.Type == is.Type }) {
			remove = append(remove, is.Type)
		}
	}
	return set, remove
}

// find is a condition of a Service.
func find(svc *corev1.Service, what string) *metav1.Condition {
	for i := range svc.Status.Conditions {
		if svc.Status.Conditions[i].Type == what {
			return &svc.Status.Conditions[i]
		}
	}
	return nil
}
