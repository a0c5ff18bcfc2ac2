{{/* Names and labels. */}}
{{- define "vestibule.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "vestibule.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "vestibule.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "vestibule.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Selectors cannot be changed later: name and instance, and nothing else. */}}
{{- define "vestibule.selector" -}}
app.kubernetes.io/name: {{ include "vestibule.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end -}}

{{- define "vestibule.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: vestibule
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "vestibule.labels" -}}
{{ include "vestibule.selector" . }}
{{ include "vestibule.commonLabels" . }}
{{- end -}}

{{- define "vestibule.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "vestibule.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "vestibule.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "vestibule.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{- default (printf "%s-tls" (include "vestibule.fullname" .)) .Values.tls.existingSecret -}}
{{- else -}}
{{- .Values.tls.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "vestibule.servicePort" -}}
{{- if .Values.service.port -}}
{{- int .Values.service.port -}}
{{- else -}}
{{- ternary 443 80 .Values.tls.enabled -}}
{{- end -}}
{{- end -}}

{{/* Every phase of the drain, what closing listeners takes (2 s), what the node grants itself at the end (5 s), and 8 s. */}}
{{- define "vestibule.graceSeconds" -}}
{{- $drain := .Values.drain -}}
{{- add $drain.preStopSeconds $drain.unreadySeconds $drain.partingSeconds $drain.flushingSeconds 15 -}}
{{- end -}}

{{- define "vestibule.replicas" -}}
{{- if eq .Values.autoscaling.mode "none" -}}
{{- int .Values.replicaCount -}}
{{- else -}}
{{- int .Values.autoscaling.minReplicas -}}
{{- end -}}
{{- end -}}

{{/* A secret's name: the one there is, or the evaluation's. */}}
{{- define "vestibule.secret" -}}
{{- $named := (index .root.Values.secrets .which).existingSecret -}}
{{- if $named -}}
{{- $named -}}
{{- else if .root.Values.evaluation.enabled -}}
{{- printf "%s-evaluation" (include "vestibule.fullname" .root) -}}
{{- end -}}
{{- end -}}

{{/* One value as TOML. Numbers of values are floats to Helm, and all of ours are whole. */}}
{{- define "vestibule.tomlValue" -}}
{{- if kindIs "slice" . -}}
[{{- range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "vestibule.tomlValue" $item }}{{ end }}]
{{- else if kindIs "string" . -}}
{{ . | toJson }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else -}}
{{ int64 . }}
{{- end -}}
{{- end -}}

{{/* A table as TOML: its values, then the tables in it. */}}
{{- define "vestibule.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "vestibule.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $here := ternary $key (printf "%s.%s" $path $key) (empty $path) }}

[{{ $here }}]
{{- include "vestibule.toml" (dict "path" $here "table" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The node's whole configuration, secrets excepted. */}}
{{- define "vestibule.config" -}}
{{- $drain := .Values.drain -}}
{{- $own := dict
  "mode" "cluster"
  "edge" (dict "listen" "0.0.0.0:8080" "operations" "0.0.0.0:8081" "internal" "0.0.0.0:7946" "max_connections" .Values.maxConnections)
  "auth" (dict "mode" "token")
  "drain" (dict "unready" (printf "%ds" (int $drain.unreadySeconds)) "parting" (printf "%ds" (int $drain.partingSeconds)) "flushing" (printf "%ds" (int $drain.flushingSeconds)))
  "cluster" (dict "secret_file" "/etc/vestibule/secrets/cluster")
-}}
{{- if include "vestibule.secret" (dict "root" . "which" "auth") -}}
{{- $_ := set $own.auth "secret_file" "/etc/vestibule/secrets/auth" -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $own.edge "tls" (dict "certificate" "/etc/vestibule/tls/tls.crt" "key" "/etc/vestibule/tls/tls.key") -}}
{{- end -}}
{{- if .Values.catalogue -}}
{{- $_ := set $own "catalogue" (dict "file" "/etc/vestibule/catalogue.toml") -}}
{{- end -}}
{{- if and .Values.evaluation.enabled (not (dig "kafka" "brokers" "" .Values.config)) -}}
{{- $_ := set $own "kafka" (dict "brokers" (printf "%s-kafka:9092" (include "vestibule.fullname" .))) -}}
{{- end -}}
{{- $defaults := dict "telemetry" (dict "log_format" "json") -}}
{{- $all := mustMergeOverwrite $defaults (deepCopy .Values.config) $own -}}
{{- include "vestibule.toml" (dict "path" "" "table" $all) | trim -}}
{{- end -}}
