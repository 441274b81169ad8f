{{- define "fairlead.labels" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/part-of: fairlead
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "fairlead.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "fairlead.keySecret" -}}
{{ .Values.cluster.existingSecret | default "fairlead-cluster-key" }}
{{- end }}

{{- /* The cluster key: the one that is given, the one that is there, or a new one. */ -}}
{{- define "fairlead.key" -}}
{{- if .Values.cluster.key -}}
{{ .Values.cluster.key }}
{{- else -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "fairlead.keySecret" .) -}}
{{- if $secret -}}
{{ index $secret.data "cluster.key" | b64dec | trim }}
{{- else -}}
{{- /* The same all over one rendering. */ -}}
{{- if not (hasKey .Values "made") }}{{ $_ := set .Values "made" (randBytes 32) }}{{ end -}}
{{ .Values.made }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "fairlead.config" -}}
[node]
{{- if .Values.hashSeed }}
hash_seed = {{ .Values.hashSeed | toJson }}
{{- else if .Values.cluster.enabled }}
hash_seed = {{ printf "hash seed of %s" (include "fairlead.key" .) | sha256sum | trunc 32 | toJson }}
{{- end }}
log_format = "json"

[kubernetes]
class = {{ .Values.kubernetes.class | toJson }}
default_class = {{ .Values.kubernetes.defaultClass }}
method = {{ .Values.kubernetes.method | toJson }}
local_method = {{ .Values.kubernetes.localMethod | toJson }}
nodes_via = {{ .Values.kubernetes.nodesVia | toJson }}
pod_weights = {{ .Values.kubernetes.podWeights }}
annotations = {{ .Values.kubernetes.annotations | toJson }}
gateway = {{ .Values.kubernetes.gateway }}
{{- range .Values.pools }}

[[kubernetes.pool]]
{{- range $key, $value := . }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- if .Values.cluster.enabled }}

[cluster]
key_file = "/etc/fairlead-key/cluster.key"
gossip_port = {{ .Values.cluster.gossipPort }}
stream_port = {{ .Values.cluster.streamPort }}
seeds = [{{ printf "fairlead-nodes.%s.svc" .Release.Namespace | toJson }}]
{{- end }}
{{- if .Values.metrics.enabled }}

[metrics]
listen = {{ printf "[::]:%v" .Values.metrics.port | toJson }}
{{- end }}

{{ .Values.config | trim }}
{{- end }}
