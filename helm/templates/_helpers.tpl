{{- define "larder.name" -}}
{{- if contains "larder" .Release.Name -}}
{{- printf "%s-operator" (.Release.Name | trunc 50 | trimSuffix "-") -}}
{{- else -}}
{{- printf "%s-larder-operator" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "larder.account" -}}
{{- .Values.serviceAccount.name | default (include "larder.name" .) -}}
{{- end -}}

{{- define "larder.selector" -}}
app.kubernetes.io/name: larder-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Not managed-by=larder: that label marks what the operator itself makes. */ -}}
{{- define "larder.labels" -}}
{{ include "larder.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: larder
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* People's labels beside the chart's own, which win. */ -}}
{{- define "larder.labelsWith" -}}
{{- toYaml (merge (include "larder.labels" .root | fromYaml) .labels) -}}
{{- end -}}

{{- define "larder.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .chart.AppVersion) -}}
{{- end -}}
